#!lua flags=allow-oom
-- Drop an entry that MongoDB differs from, unless it has changed since it was compared.
--
-- An entry goes together with its load token, and only if it has a TTL, as in `invalidate`.
--
-- KEYS  1 entry  2 load; others are not looked at
-- ARGV  1 member  2 what stood before the body of the entry
-- Returns 1, or 0 when it is another one, or has no TTL
if redis.call('GETRANGE', KEYS[1], 0, 48) ~= ARGV[2] or redis.call('PTTL', KEYS[1]) == -1 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
