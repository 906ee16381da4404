#!lua flags=allow-oom
-- Let a new partition be filled by one process, whoever did so before, unless it is in use already.
--
-- KEYS  1 arriving
-- ARGV  1 the token of whoever fills it  2 what stands there once it is in use
-- Returns 1, or 0 when it is in use
if redis.call('GET', KEYS[1]) == ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
