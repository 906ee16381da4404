#!lua flags=allow-oom
-- Note that somebody lives, now: also while Redis is full, when it matters most.
--
-- KEYS  1 sorted set of names by the time, ms
-- ARGV  1 name  2 how long names are kept, ms
-- Returns 1
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return 1
