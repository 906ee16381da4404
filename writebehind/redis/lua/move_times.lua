#!lua flags=allow-oom
-- Move some times of one partition along with the clock of Redis, which has stepped: each once, whoever has seen it.
--
-- What was noted after the step, and what cannot be told from it, stays as it is. Times are taken against the direction
-- in which they move, so that what has moved lies behind: how far that has come is noted, and anybody goes on there.
--
-- KEYS  1 stepped  2 pending  3 deleted_at
-- ARGV  1 since when the clock has been as it is now, at the earliest, ms by the new clock  2 when it was seen, ms
--       3 by how much it has stepped, ms  4 the longest that a member may have to wait, ms  5 life of the note, ms
--       6 how many times to look at
-- Returns how many times were moved, and 1 if there is more to look at
-- include: now_ms
local from, to, step, slice = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[6])
local at, passed = 2, ''
-- Whoever has seen it may come late: what others have noted meanwhile is after the step as well.
to = math.max(to, now_ms())

local words = {}
for word in string.gmatch(redis.call('GET', KEYS[1]) or '', '%S+') do
  words[#words + 1] = word
end
if tonumber(words[1] or '') and tonumber(words[2] or '') and tonumber(words[3] or '') then  -- as noted below
  local same = math.abs(words[3] - step) < math.max(1000, math.abs(step) / 20)
  if same and from <= tonumber(words[2]) and tonumber(words[1]) <= to then
    if #words == 3 then
      return {0, 0}
    end
    from, step, at = tonumber(words[1]), tonumber(words[3]), words[4] == '3' and 3 or 2
    passed = tonumber(words[5] or '') and words[5] or ''
  end
end

local range, first, last = 'ZRANGEBYSCORE', '-inf', '+inf'
if step > 0 then
  range, first, last = 'ZREVRANGEBYSCORE', '+inf', '-inf'
end
local all = redis.call(range, KEYS[at], passed == '' and first or '(' .. passed, last, 'WITHSCORES', 'LIMIT', 0, slice)
local more = #all == 2 * slice
if more then  -- and all that have the last of these times
  passed = all[#all]
  while all[#all] == passed do
    all[#all], all[#all - 1] = nil, nil
  end
  for _, one in ipairs(redis.call(range, KEYS[at], passed, passed, 'WITHSCORES')) do
    all[#all + 1] = one
  end
end

local moved, ahead = 0, at == 2 and tonumber(ARGV[4]) or 0
for i = 1, #all, 2 do
  local time = tonumber(all[i + 1])
  if time < from or time > to + ahead then
    redis.call('ZADD', KEYS[at], string.format('%.0f', time + step), all[i])
    moved = moved + 1
  end
end

local note = string.format('%.0f %.0f %.0f', from, to, step)
if more or at == 2 then
  note = note .. (more and string.format(' %d %s', at, passed) or ' 3')
end
redis.call('SET', KEYS[1], note, 'PX', ARGV[5])
return {moved, (more or at == 2) and 1 or 0}
