#!lua flags=no-writes,allow-oom
-- How much a partition has that MongoDB may not have, at one moment: what goes from pending to dead meanwhile, or back,
-- is counted once; and who sees to it.
--
-- Postponing moves the time at which a member is due. So the one that has waited longest is looked for among those that
-- are due first and last, a bounded number: what was postponed most often stands last.
--
-- KEYS  1 pending  2 dead  3 lease  4 scheduled  5 sent
-- Returns {number pending, number of dead letters,
--         {the member that has waited longest, when it is due, ms, since when MongoDB does not take it, ms, or ''},
--         the same of the one that is due last,
--         time left of the lease, ms; below 0 where nobody has one,
--         {ticket, or nothing where none is on its way, time left of it, ms},
--         {the member that is due first of those that are set aside, when it is due, ms}}
-- include: due_of
local ticket = redis.pcall('GET', KEYS[4])  -- other hands may have put there what is no string
local first_aside = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(0', 'WITHSCORES', 'LIMIT', 0, 1)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '0', '+inf', 'WITHSCORES', 'LIMIT', 0, 32)
local tail = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '0', 'WITHSCORES', 'LIMIT', 0, 32)
local longest, least = {}, math.huge
for _, some in ipairs({found, tail}) do
  local members = {}
  for i = 1, #some, 2 do members[#members + 1] = some[i] end
  local notes = #some > 0 and redis.pcall('HMGET', KEYS[5], unpack(members)) or {}  -- other hands may have made it no hash
  for i, member in ipairs(members) do
    local version, at, tried = string.match(notes[i] or '', '^(%d+)%S* (%d+) %S* ?(%d*)')
    local since = tonumber(at) or math.huge
    if tonumber(tried) then since = math.min(since, math.floor(string.sub(version, 1, 16) / 1000)) end
    local due = tonumber(some[2 * i])
    if math.min(due, since) < least then
      least = math.min(due, since)
      longest = {member, some[2 * i], since < math.huge and string.format('%.0f', since) or ''}
    end
  end
end
if #first_aside > 0 then first_aside[2] = string.format('%.0f', due_of(tonumber(first_aside[2]))) end
return {
  redis.call('ZCARD', KEYS[1]),
  redis.call('HLEN', KEYS[2]),
  longest,
  {tail[1], tail[2]},
  redis.call('PTTL', KEYS[3]),
  {type(ticket) == 'string' and ticket, redis.call('PTTL', KEYS[4])},
  first_aside,
}
