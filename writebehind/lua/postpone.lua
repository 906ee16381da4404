#!lua flags=allow-oom
-- Try members that MongoDB did not take now again later, the later the more often they were tried.
--
-- The count stands behind what is noted in `sent` of the version, so it ends with that.
--
-- KEYS  1 pending  2 sent  3… the entries, in the order of the members
-- ARGV  1 delay after the first attempt, ms; it doubles with each  2 the longest, ms  3 random number from 0.5 to 1
--       4 the longest that a member may have to wait, ms: one that is due later is due, see claim
--       then for each entry: member, version that was not taken
-- Returns for each how often its version was tried, as far as it was due; 0 where there is another one, or none pending
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counts = {}

for i = 3, #KEYS do
  local at = 5 + (i - 3) * 2
  local member, version, count = ARGV[at], ARGV[at + 1], 0
  local due = redis.call('ZSCORE', KEYS[1], member)
  local noted = redis.call('HGET', KEYS[2], member)
  if due and noted and string.sub(noted, 1, 16) == version and redis.call('GETRANGE', KEYS[i], 0, 15) == version then
    local note, tried = string.match(noted, '^(%S+ %S+ %S*) ?(%d*)$')
    count = tonumber(tried) or 0
    due = tonumber(due)
    if due <= now or due > now + ARGV[4] then  -- who is drained early is not given up early
      count = count + 1
      local delay = math.min(ARGV[1] * 2 ^ math.min(count - 1, 20), tonumber(ARGV[2])) * ARGV[3]
      redis.call('HSET', KEYS[2], member, note .. ' ' .. count)
      redis.call('ZADD', KEYS[1], string.format('%.0f', now + math.ceil(delay)), member)
    end
  end
  counts[i - 2] = count
end
return counts
