#!lua flags=allow-oom
-- Change a record of the installation, if it is still what the caller has seen.
--
-- KEYS  1 partitions or database
-- ARGV  1 the record as it was seen  2 the new record
-- Returns 1, or 0 when somebody else has changed it
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
