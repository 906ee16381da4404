#!lua flags=allow-oom
-- Become the one reader that may replace an entry by what MongoDB has, while others are served from it.
--
-- KEYS  1 entry  2 load
-- ARGV  1 token of this reader, which begins with 'refresh:': see get_or_lease_entry  2 life of the token, ms
--       3 the TTL that the reader saw, ms: an entry that lives longer has been refreshed since
-- Returns what stands before the body of the entry: version, kind and ETag
--       ''   there is no such entry, or it has no TTL, as MongoDB does not have it yet; or another reader has the right
local entry, load = KEYS[1], KEYS[2]

local ttl = redis.call('PTTL', entry)
if ttl < 0 or ttl > tonumber(ARGV[3]) or not redis.call('SET', load, ARGV[1], 'NX', 'PX', ARGV[2]) then
  return ''
end
return redis.call('GETRANGE', entry, 0, 48)
