#!lua flags=allow-oom
-- Let documents cool down by as much as is due since the last time: two that do this do no harm.
--
-- KEYS  1 hot  2 heat
-- ARGV  1 half-life of heat, ms  2 how many members are kept
--       3 for how many entries of this partition Redis has room: 0 for as many as there are
--       4 heat below which a member is forgotten
-- Returns how many members there are
-- include: now_ms
local hot, heat = KEYS[1], KEYS[2]

local now = now_ms()
local last = tonumber(redis.call('HGET', heat, 'decayed') or redis.call('HGET', heat, 'since') or '') or now
local factor = 0.5 ^ (math.max(0, now - last) / tonumber(ARGV[1]))
redis.call('ZUNIONSTORE', hot, 1, hot, 'WEIGHTS', string.format('%.17g', factor))
redis.call('ZREMRANGEBYSCORE', hot, '-inf', '(' .. ARGV[4])
redis.call('ZREMRANGEBYRANK', hot, 0, -(tonumber(ARGV[2]) + 1))
local count = redis.call('ZCARD', hot)
if count == 0 then
  redis.call('DEL', heat)
  return 0
end
local room, floor = tonumber(ARGV[3]), '0'
if room > 0 and room < count then
  floor = redis.call('ZRANGE', hot, -room, -room, 'WITHSCORES')[2]
end
redis.call('HSET', heat, 'decayed', now, 'floor', floor)
return count
