#!lua flags=allow-oom
-- Let a partition be divided from now on, if it has been frozen since the last of it was copied. Whoever flushes it, or is
-- about to, begins anew. What it has issued until now has gone to other partitions, as far as it belongs there.
--
-- KEYS  1 frozen  2 divided  3 lease  4 scheduled  5 leaving  6 clock
-- ARGV  1 the token of whoever has copied it  2 into how many partitions all of Redis is being divided
-- Returns 1, or 0 when something may have changed meanwhile
-- include: last_version
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[5], string.format('%016.0f', last_version(redis.call('GET', KEYS[6]))))
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[3], KEYS[4])
return 1
