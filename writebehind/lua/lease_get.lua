-- Read an entry or, where it is missing, become the one reader that may fill it.
--
-- KEYS  1 entry  2 load
-- ARGV  1 token of this reader  2 life of the token, ms
-- Returns {'entry', entry, its TTL in ms or -1}
--       {'load'}   the caller holds the token: load from MongoDB, then fill
--       {'wait'}   another reader is loading
local entry, load = KEYS[1], KEYS[2]

local value = redis.call('GET', entry)
if value then
  return {'entry', value, redis.call('PTTL', entry)}
end
if redis.call('SET', load, ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {'load'}
end
return {'wait'}
