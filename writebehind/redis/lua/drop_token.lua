#!lua flags=allow-oom
-- Delete a token that lives longer than it may.
--
-- KEYS  1 any token
-- ARGV  1 longest life, ms
-- Returns 1, or 0 when its life is right
local ttl = redis.call('PTTL', KEYS[1])
if ttl ~= -1 and ttl <= tonumber(ARGV[1]) then
  return 0
end
return redis.call('DEL', KEYS[1])
