#!lua flags=allow-oom
-- Note that somebody has done something: also while Redis is full, when it matters most.
--
-- KEYS  1 workers or consumers or holding or full or processes or observed or caps or complaints
-- ARGV  1 name, or caps, or words  2 how long names are kept, ms  3 how long ago it was done, ms
-- Returns 1
-- include: now_ms
local now = now_ms()
redis.call('ZADD', KEYS[1], now - tonumber(ARGV[3]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return 1
