#!lua flags=allow-oom
-- Give a token back: the right to load without filling, so that another reader may try at once, or a lease.
--
-- KEYS  1 any token
-- ARGV  1 the token
-- Returns 1, or 0 when the token is not ours any more
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
