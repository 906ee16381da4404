#!lua flags=allow-oom
-- Replace a dead letter, if it is still the one that was looked at.
--
-- KEYS  1 dead
-- ARGV  1 member  2 the letter as it was  3 the letter from now on
-- Returns 1, or 0 when it is another one
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
