#!lua flags=allow-oom
-- Note that somebody is at work, also while Redis is full; and, where nobody at all has noted anything for long, that
-- Redis was away meanwhile. One whose own way to Redis was broken notes none: others have noted something.
--
-- KEYS  1 observed
-- ARGV  1 name, or ''  2 how long names are kept, ms  3 from how long on nobody's notes are an outage, ms
--       4 how far a note may lie ahead: what lies further is of a clock that was set back, ms
-- Returns 1 where Redis was away, else 0
-- include: now_ms
local observed, name = KEYS[1], ARGV[1]
local now = now_ms()
local SEEN, AWAY = 'redis-seen', 'redis-away '
redis.call('ZREMRANGEBYSCORE', observed, '-inf', now - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', observed, now + tonumber(ARGV[4]), '+inf')
local seen = tonumber(redis.call('ZSCORE', observed, SEEN) or now)
local was_away = now - seen >= tonumber(ARGV[3])
if was_away then
  for _, one in ipairs(redis.call('ZRANGE', observed, 0, -1)) do
    if string.sub(one, 1, #AWAY) == AWAY then redis.call('ZREM', observed, one) end
  end
  redis.call('ZADD', observed, now, AWAY .. string.format('%d', seen))
end
redis.call('ZADD', observed, now, SEEN)
if name ~= '' then redis.call('ZADD', observed, now, name) end
return was_away and 1 or 0
