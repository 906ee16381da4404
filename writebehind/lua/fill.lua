-- Store what was loaded from MongoDB, unless a write or an invalidation came in between.
--
-- KEYS  1 entry  2 load
-- ARGV  1 token of this reader  2 the entry  3 its TTL, ms
-- Returns 1, or 0 when the token is not ours any more or an entry is there: then what was loaded may be old
local entry, load = KEYS[1], KEYS[2]

if redis.call('GET', load) ~= ARGV[1] or redis.call('EXISTS', entry) == 1 then
  return 0
end
redis.call('SET', entry, ARGV[2], 'PX', ARGV[3])
redis.call('DEL', load)
return 1
