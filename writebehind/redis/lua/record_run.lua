#!lua flags=allow-oom
-- Note that a periodic task has run, now: also while Redis is full, when it matters most.
--
-- KEYS  1 runs
-- ARGV  1 task  2 what to remember of it
-- Returns 1
-- include: now_ms
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now_ms(), ARGV[2]))
return 1
