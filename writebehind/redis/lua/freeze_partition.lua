#!lua flags=allow-oom
-- Let nothing change in a partition for a moment, as the last of it is copied to another server.
--
-- KEYS  1 server  2 frozen
-- ARGV  1 partition, or home  2 the token of whoever copies it  3 for how long, ms
-- Returns 1, or 0 when it is not here, or somebody else has frozen it
local token = redis.call('GET', KEYS[2])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 or (token and token ~= ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
