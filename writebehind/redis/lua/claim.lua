#!lua flags=allow-oom
-- Take or renew the partition's lease and return the members that are due, the longest waiting first. Where any is,
-- those that are due soon may go along: so documents that trickle in need no bulk write each. Where none is, the partition may be
-- let go of at once, as by `release`: a flusher that is done needs no other step for it, and nothing can come in between.
--
-- Members of paused collections are set aside: they stay pending, in the order in which they are due, with scores below 0. So
-- whoever counts what is pending finds them, and nobody who looks for what is due. Once that is over they are due again as they
-- were: all of them at once, in the first claim that is told so.
--
-- KEYS  1 lease  2 scheduled  3 pending  4 aside
-- ARGV  1 token of this flusher  2 life of the lease, ms  3 most members to return
--       4 ticket of the flush task, '' for a flush that nobody scheduled
--       5 '1' to return also members that are not due yet
--       6 how early members may go along, ms
--       7 the longest that a member may have to wait, ms: one that is due later was left behind by a clock that has
--         stepped back since, and is due
--       8 the paused collections, in order and with commas between them; '' for none
--       and where the partition is let go of if nothing is due  9 least delay until the next flush, ms  10 extra life of
--       `scheduled`, ms  11 how long until the next flush where members are set aside, ms  12 '1' while all is paused: see release
-- Returns {'busy'}                    another flusher owns the partition, or a later flush task is on its way
--       {'claimed', {member, …}, {member, ms until it is due, …}}   those that are due, and those that may go along
--       {'released', {} or {delay, ticket}}   nothing is due; the second as of release
-- include: cut_life, now_ms, now_us, issue_ticket, give_back
local lease, scheduled, pending = KEYS[1], KEYS[2], KEYS[3]
local token, life, ticket, limit, paused = ARGV[1], ARGV[2], ARGV[4], tonumber(ARGV[3]), ARGV[8]
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

local is_paused = {}
for name in string.gmatch(paused, '[^,]+') do is_paused[name] = true end
local function of_paused(member) return is_paused[string.match(member, '^[^/]*')] end

local first = redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES')
local is_aside = #first > 0 and tonumber(first[2]) < 0
if is_aside and limit > 0 and (paused == '' or redis.call('GET', KEYS[4]) ~= paused) then
  local aside = redis.call('ZRANGEBYSCORE', pending, '-inf', '(0', 'WITHSCORES')
  for i = 1, #aside, 2 do
    if not of_paused(aside[i]) then  -- where other hands have put it aside, it may be below 0 still: it is due
      redis.call('ZADD', pending, string.format('%.0f', math.max(0, aside[i + 1] + 1e13)), aside[i])
    end
  end
  if paused == '' then redis.call('DEL', KEYS[4]) else redis.call('SET', KEYS[4], paused) end
end

local now = now_ms()
local until_when = ARGV[5] == '1' and '+inf' or now
local members = {}

-- Take those that are due from `from` to `to`, as far as there is room; and set those aside that are paused, a bounded number.
local function take(from, to)
  if paused == '' then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', pending, from, to, 'LIMIT', 0, limit - #members)) do
      members[#members + 1] = member
    end
    return
  end
  local taken, looked = 0, 0
  while #members < limit and looked < 10 * limit do
    local some = redis.call('ZRANGEBYSCORE', pending, from, to, 'WITHSCORES', 'LIMIT', taken, limit - #members)
    if #some == 0 then return end
    for i = 1, #some, 2 do
      if of_paused(some[i]) then
        redis.call('ZADD', pending, string.format('%.0f', some[i + 1] - 1e13), some[i])
        redis.call('SET', KEYS[4], paused)
      else
        members[#members + 1] = some[i]
        taken = taken + 1
      end
    end
    looked = looked + #some / 2
  end
end
take('0', until_when)
if until_when == now then take(string.format('(%.0f', now + tonumber(ARGV[7])), '+inf') end
if #members == 0 and ARGV[9] then
  return {'released', give_back(lease, scheduled, pending, ARGV[9], ARGV[10], ARGV[7], ARGV[11], ARGV[12])}
end

redis.call('SET', lease, token, 'PX', life)
-- While this flusher works, writes need not enqueue another: whoever lets go looks at `pending` in the same step.
redis.call('SET', scheduled, at_work, 'PX', life)
local soon, room = {}, limit - #members
if #members > 0 and room > 0 and tonumber(ARGV[6]) > 0 then
  local last = string.format('%.0f', now + ARGV[6])
  local some = redis.call('ZRANGEBYSCORE', pending, '(' .. until_when, last, 'WITHSCORES', 'LIMIT', 0, room)
  for i = 1, #some, 2 do
    if not of_paused(some[i]) then
      soon[#soon + 1] = some[i]
      soon[#soon + 1] = tonumber(some[i + 1]) - now
    end
  end
end
return {'claimed', members, soon}
