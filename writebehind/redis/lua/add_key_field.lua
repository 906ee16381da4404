#!lua flags=allow-oom
-- Add a field to the API keys, unless it is there, and drop others that mean nothing after it: also while Redis is full, as
-- whoever fills it may be whose key is to be revoked. A field that is there is written as it is: WAIT after this step is about
-- what the step has written, so it would not wait for a replica that lacks the field.
--
-- KEYS  1 api_keys
-- ARGV  1 field  2 value  3… fields to drop
-- Returns 1, or 0 when the field was there
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  redis.call('HSET', KEYS[1], ARGV[1], redis.call('HGET', KEYS[1], ARGV[1]))
  return 0
end
if ARGV[3] then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 3))
end
return 1
