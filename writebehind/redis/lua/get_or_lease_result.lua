#!lua flags=allow-oom
-- Read what a query has found or, where that is missing or out of date, become the one reader that may load it.
--
-- KEYS  1 query  2 queryload
-- ARGV  1 token of this reader  2 life of the token, ms  3 what is out of date
-- Returns {'found', what there is instead}
--       {'load'}   the caller holds the token: ask MongoDB, then fill
--       {'wait'}   another reader is asking
-- include: cut_life, lease_load
local value = redis.call('GET', KEYS[1])
if value and value ~= ARGV[3] then
  return {'found', value}
end
return lease_load(KEYS[2], ARGV[1], ARGV[2])
