#!lua flags=allow-oom
-- Return what readers see of documents, without the bodies, and whether it is MongoDB's or not there yet, at one moment.
--
-- KEYS  1 pending  2 dead  3… entry: of each member
-- ARGV  members
-- Returns {what stands before the body or '', its TTL in ms: -1 without one, -2 without entry, 1 if it is pending or dead, …}
local found = {}
for i, member in ipairs(ARGV) do
  local ttl = redis.call('PTTL', KEYS[i + 2])
  found[3 * i - 2] = redis.call('GETRANGE', KEYS[i + 2], 0, 48)
  found[3 * i - 1] = ttl
  -- What has a TTL is neither: most are that.
  found[3 * i] = ttl < 0 and (redis.call('ZSCORE', KEYS[1], member) or redis.call('HEXISTS', KEYS[2], member) == 1) and 1 or 0
end
return found
