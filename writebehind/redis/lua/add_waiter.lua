#!lua flags=allow-oom
-- Note that a dead letter waits for another document to change: that one has a unique value that the letter's was given.
--
-- KEYS  1 awaited  2 waiting: of the document that is waited for
-- ARGV  1 the member that has the value  2 the member of the dead letter  3 the value, as text
-- Returns 1
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
