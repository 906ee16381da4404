#!lua flags=allow-oom
-- Drop an entry, because MongoDB has changed beside the pipeline.
--
-- KEYS  1 entry  2 load  3 pending  4 dead
-- ARGV  1 member
-- Returns 1, or 0 when the member is pending, or a dead letter whose body is nowhere else
if redis.call('ZSCORE', KEYS[3], ARGV[1]) or redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1 then
  return 0
end
redis.call('DEL', KEYS[1], KEYS[2])  -- the token too: a fill on its way may carry the old value
return 1
