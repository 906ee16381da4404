#!lua flags=allow-oom
-- Add a reconciling pass to the history, the last first; and let the next one begin anew, if it was the one under way.
--
-- KEYS  1 drift or drift_free  2 lease  3 reconcile
-- ARGV  1 the pass  2 most passes in the history  3 life of the history, ms
--       4 token of whoever made the pass under way, '' for another pass
-- Returns 1, or 0 when somebody else has the lease by now: then the pass is not remembered
if ARGV[4] ~= '' then
  if redis.call('GET', KEYS[2]) ~= ARGV[4] then
    return 0
  end
  redis.call('DEL', KEYS[3])
end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
