#!lua flags=allow-oom
-- Change the record of the number of partitions, if it is still what the caller has seen.
--
-- KEYS  1 partitions
-- ARGV  1 the record as it was seen, '' for none  2 the new record
-- Returns 1, or 0 when somebody else has changed it
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
