#!lua flags=allow-oom
-- Record what all processes of an installation must agree on, where nobody has recorded it yet.
--
-- KEYS  1 partitions or database
-- ARGV  1 the record
-- Returns what is recorded then
local found = redis.call('GET', KEYS[1])
if found then
  return found
end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
