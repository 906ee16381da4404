#!lua flags=allow-oom
-- Delete a key that would expire anyway: the copy of what MongoDB has, or the token of a reader.
--
-- KEYS  1 any key
-- Returns 1, or 0 when it has no TTL, as what is pending or dead, or is gone
if redis.call('PTTL', KEYS[1]) < 0 then
  return 0
end
return redis.call('UNLINK', KEYS[1])
