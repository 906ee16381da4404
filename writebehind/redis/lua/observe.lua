#!lua flags=no-writes,allow-oom
-- Return what readers see of documents, and whether it is MongoDB's or not there yet, at one moment.
--
-- KEYS  1 pending  2 dead  3… entry: of each member
-- ARGV  1 position of the last byte that is returned of an entry: 48 for what stands before the body  2… members
-- Returns {so much of the entry or '', its TTL in ms: -1 without one, -2 without entry, 1 if it is pending or dead, …}
local found = {}
for i = 2, #ARGV do
  local member, entry, at = ARGV[i], KEYS[i + 1], 3 * i - 5
  local ttl = redis.call('PTTL', entry)
  found[at] = redis.call('GETRANGE', entry, 0, ARGV[1])
  found[at + 1] = ttl
  -- What has a TTL is neither: most are that.
  found[at + 2] = ttl < 0 and (redis.call('ZSCORE', KEYS[1], member) or redis.call('HEXISTS', KEYS[2], member) == 1) and 1 or 0
end
return found
