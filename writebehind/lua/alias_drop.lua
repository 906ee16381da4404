#!lua flags=allow-oom
-- Forget an alias, because MongoDB has changed beside the pipeline; not one of a write that MongoDB does not have yet.
--
-- KEYS  1 alias  2 load
-- Returns 1, or 0 when it has no TTL
if redis.call('PTTL', KEYS[1]) == -1 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
