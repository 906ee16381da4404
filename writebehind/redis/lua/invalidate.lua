#!lua flags=allow-oom
-- Drop an entry, because MongoDB has changed beside the pipeline.
--
-- An entry goes together with its load token, and only if it has a TTL: then MongoDB has it as well. What is pending,
-- or a dead letter whose body is nowhere else, has none.
--
-- KEYS  1 entry  2 load
-- Returns 1, or 0 when the entry has no TTL
if redis.call('PTTL', KEYS[1]) == -1 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])  -- the token too: a fill on its way may carry the old value
return 1
