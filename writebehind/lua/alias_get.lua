-- Read where an alias leads or, where it is missing or misleads, become the one reader that may put it right.
--
-- KEYS  1 alias  2 load
-- ARGV  1 token of this reader  2 life of the token, ms  3 where the alias was found to mislead to, or ''
-- Returns {'alias', where it leads: '' to no document}
--       {'load'}   the caller holds the token: ask MongoDB, then fill
--       {'wait'}   another reader is asking
local value = redis.call('GET', KEYS[1])
if value and value ~= ARGV[3] then
  return {'alias', value}
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {'load'}
end
return {'wait'}
