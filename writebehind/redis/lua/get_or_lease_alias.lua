#!lua flags=allow-oom
-- Read which documents may have a value or, where those are none or were all found not to have it, become the one
-- reader that may put the alias right.
--
-- KEYS  1 alias  2 aliasload  3 aliasclaims
-- ARGV  1 token of this reader  2 life of the token, ms  3 the state that was followed in vain, '' for none
-- Returns {'alias', state, the member that the alias leads to: '' to no document, nil: there is no alias,
--          {the members that claim the value, the newest claim first}}
--       {'load'}   the caller holds the token: ask MongoDB, then fill
--       {'wait'}   another reader is asking
-- include: cut_life, lease_load
local leads = redis.call('GET', KEYS[1])
local claims = redis.call('ZRANGE', KEYS[3], 0, -1, 'REV', 'WITHSCORES')

-- With the versions of the claims: a document may have got the value again after it was seen without.
local state = table.concat(claims, ' ') .. '>' .. (leads or '-')
if (leads or #claims > 0) and state ~= ARGV[3] then
  local members = {}
  for i = 1, #claims, 2 do
    members[#members + 1] = claims[i]
  end
  return {'alias', state, leads, members}
end
return lease_load(KEYS[2], ARGV[1], ARGV[2])
