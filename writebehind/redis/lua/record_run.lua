#!lua flags=allow-oom
-- Note that a periodic task has run, now: also while Redis is full, when it matters most.
--
-- KEYS  1 hash of runs by task
-- ARGV  1 task  2 what to remember of it
-- Returns 1
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[2]))
return 1
