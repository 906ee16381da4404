#!lua flags=allow-oom
-- Give the load token back without filling, so that another reader may try at once.
--
-- KEYS  1 load
-- ARGV  1 token of this reader
-- Returns 1, or 0 when the token is not ours any more
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
