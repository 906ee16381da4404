#!lua flags=allow-oom
-- Move the times of one partition along with the clock of Redis, which has stepped: once, whoever has seen it.
--
-- What was noted after the step, and what cannot be told from it, stays as it is. All of a partition is moved in one go,
-- as half of it could not be told from the other half: see ADR 27 for how long that takes.
--
-- KEYS  1 stepped  2 pending  3 deleted_at
-- ARGV  1 since when the clock has been as it is now, at the earliest, ms by the new clock  2 when it was seen, ms
--       3 by how much it has stepped, ms  4 the longest that a member may have to wait, ms  5 life of the note, ms
-- Returns how many times were moved
local from, to, step, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Whoever has seen it may come late: what others have noted meanwhile is after the step as well.
local clock = redis.call('TIME')
to = math.max(to, clock[1] * 1000 + math.floor(clock[2] / 1000))

local noted = redis.call('GET', KEYS[1])
if noted then
  local noted_from, noted_to, noted_step = string.match(noted, '^(%S+) (%S+) (%S+)$')
  local same = math.abs(noted_step - step) < math.max(1000, math.abs(step) / 20)
  if same and from <= tonumber(noted_to) and tonumber(noted_from) <= to then
    return 0
  end
end
redis.call('SET', KEYS[1], string.format('%.0f %.0f %.0f', from, to, step), 'PX', ARGV[5])

local moved = 0
for at, ahead in pairs({[2] = longest, [3] = 0}) do
  local all = redis.call('ZRANGE', KEYS[at], 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    local time = tonumber(all[i + 1])
    if time < from or time > to + ahead then
      redis.call('ZADD', KEYS[at], string.format('%.0f', time + step), all[i])
      moved = moved + 1
    end
  end
end
return moved
