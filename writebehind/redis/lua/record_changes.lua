#!lua flags=allow-oom
-- Note that MongoDB has other documents than before, for the cached queries of their collection.
--
-- KEYS  1 changed  2 changes
-- ARGV  1 how often results may be out of date, ms  2 '1' if nobody knows what has changed  3... the members
-- Returns 1 where results that were loaded before are to be loaded anew, else 0
-- include: now_ms
local changed, state = KEYS[1], KEYS[2]

local now = now_ms()
local number = redis.pcall('HINCRBY', state, 'number', 1)
local unreadable = type(number) == 'table'
if unreadable then  -- other hands have made it no number: it is to be above all that it was
  number = now
  redis.call('DEL', state)
  redis.call('HSET', state, 'number', number)
end
if ARGV[2] == '1' or unreadable then
  redis.call('DEL', changed)
  redis.call('HSET', state, 'epoch', number, 'before', number, 'at', now)
  return 1
end
for i = 3, #ARGV do
  redis.call('ZADD', changed, number, ARGV[i])
end
local last = tonumber(redis.call('HGET', state, 'at') or '') or 0
if now >= last and now - last < tonumber(ARGV[1]) then
  return 0
end
-- Results of the last epoch may still be served, with what has changed since: so nobody has to wait.
local before = string.format('%.0f', tonumber(redis.call('HGET', state, 'epoch') or '') or 0)
redis.call('HSET', state, 'epoch', number, 'before', before, 'at', now)
redis.call('ZREMRANGEBYSCORE', changed, '-inf', before)
return 1
