#!lua flags=allow-oom
-- Take or renew the partition's lease and return the members that are due, the longest waiting first. Where any is,
-- those that are due soon may go along: so documents that trickle in need no bulk write each.
--
-- KEYS  1 lease  2 scheduled  3 pending
-- ARGV  1 token of this flusher  2 life of the lease, ms  3 most members to return
--       4 ticket of the flush task, '' for a flush that nobody scheduled
--       5 '1' to return also members that are not due yet
--       6 how early members may go along, ms
--       7 the longest that a member may have to wait, ms: one that is due later was left behind by a clock that has
--         stepped back since, and is due
-- Returns {'busy'}                    another flusher owns the partition, or a later flush task is on its way
--       {'claimed', {member, …}, {member, ms until it is due, …}}   those that are due, and those that may go along
-- include: cut_life, now_ms
local lease, scheduled, pending = KEYS[1], KEYS[2], KEYS[3]
local token, life, ticket = ARGV[1], ARGV[2], ARGV[4]
local at_work = '0:' .. token  -- as a ticket: nobody can be sooner than who is there

local owner = redis.call('GET', lease)
if owner and redis.call('PTTL', lease) == -1 then
  owner = false  -- each has a life: one without was put there by hand, and would be held for ever
end
if owner and owner ~= token then
  cut_life(lease, life)
  return {'busy'}
end
-- One chain of tasks per partition: a redelivered or overtaken one ends here, else each would retry for ever.
local wanted = redis.call('GET', scheduled)
if owner ~= token and ticket ~= '' and wanted and wanted ~= ticket and wanted ~= at_work then
  return {'busy'}
end
redis.call('SET', lease, token, 'PX', life)
-- While this flusher works, writes need not enqueue another: `release` looks at `pending` again before it lets go.
redis.call('SET', scheduled, at_work, 'PX', life)

local now = now_ms()
local until_when = ARGV[5] == '1' and '+inf' or now
local members = redis.call('ZRANGEBYSCORE', pending, '-inf', until_when, 'LIMIT', 0, ARGV[3])
local soon, room = {}, tonumber(ARGV[3]) - #members
if until_when == now and room > 0 then
  local ahead = string.format('(%.0f', now + tonumber(ARGV[7]))
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', pending, ahead, '+inf', 'LIMIT', 0, room)) do
    members[#members + 1] = member
    room = room - 1
  end
end
if #members > 0 and room > 0 and tonumber(ARGV[6]) > 0 then
  local last = string.format('%.0f', now + ARGV[6])
  soon = redis.call('ZRANGEBYSCORE', pending, '(' .. until_when, last, 'WITHSCORES', 'LIMIT', 0, room)
  for i = 2, #soon, 2 do soon[i] = tonumber(soon[i]) - now end
end
return {'claimed', members, soon}
