#!lua flags=allow-oom
-- Drop an entry that MongoDB differs from, unless it has changed since it was compared.
--
-- An entry goes together with its load token, and only if it has a TTL, as in `invalidate`; a known absence, which
-- nobody ever wrote, in any case.
--
-- KEYS  1 entry  2 load
-- ARGV  1 what stood before the body of the entry
-- Returns 1, or 0 when it is another one, or has no TTL
if redis.call('GETRANGE', KEYS[1], 0, 48) ~= ARGV[1] then
  return 0
end
if redis.call('PTTL', KEYS[1]) == -1 and string.sub(ARGV[1], 17) ~= 'N' then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
