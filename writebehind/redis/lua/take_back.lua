#!lua flags=allow-oom
-- Let a partition be undivided again, as replicas do not have it: nobody has acted on it while it is frozen.
--
-- KEYS  1 frozen  2 divided  3 leaving
-- ARGV  1 the token of whoever has divided it
-- Returns 1, or 0 when it is not frozen any more
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2], KEYS[3])
return 1
