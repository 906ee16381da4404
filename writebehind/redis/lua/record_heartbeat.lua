#!lua flags=allow-oom
-- Note that somebody lives, now: also while Redis is full, when it matters most.
--
-- KEYS  1 workers
-- ARGV  1 name  2 how long names are kept, ms
-- Returns 1
-- include: now_ms
local now = now_ms()
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return 1
