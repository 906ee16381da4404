#!lua flags=allow-oom
-- Put a letter in the place of a dead letter that nobody can read, or take it out, if it is still the same.
--
-- KEYS  1 dead
-- ARGV  1 name of the letter  2 what was found there  3 the letter from now on: 16 digits of version, then JSON; '' for none
-- Returns 1, or 0 when it is another one
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
