#!lua flags=allow-oom
-- Drop an entry that MongoDB differs from, unless it has changed since it was compared.
--
-- KEYS  1 entry  2 load  3 pending  4 dead
-- ARGV  1 member  2 what stood before the body of the entry
-- Returns 1, or 0 when it is pending, dead or another one
if redis.call('GETRANGE', KEYS[1], 0, 48) ~= ARGV[2] then
  return 0
end
if redis.call('ZSCORE', KEYS[3], ARGV[1]) or redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
