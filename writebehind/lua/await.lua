#!lua flags=allow-oom
-- Note that a dead letter waits for another document to change: that one has a unique value that the letter's was given.
--
-- KEYS  1 awaited
-- ARGV  1 the member that has the value  2 the member of the dead letter
--       3 what stood before the body of the former's entry when that was seen, '' for no entry
-- Returns 1
local noted = redis.call('HGET', KEYS[1], ARGV[1])
local waiting = noted and cjson.decode(noted) or {}
waiting[ARGV[2]] = ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(waiting))
return 1
