#!lua flags=allow-oom
-- Try members that MongoDB did not take now again later, the later the more often they were tried.
--
-- The counts stand behind what is noted in `sent` of the version, so they end with that.
--
-- KEYS  1 pending  2 sent  3… entry: of each member
-- ARGV  1 delay after the first attempt, ms; it doubles with each  2 the longest, ms  3 random number from 0.5 to 1
--       4 the longest that a member may have to wait, ms: one that is due later is due, see claim
--       5 '1' where MongoDB has taken other writes meanwhile, so that it is rather about these
--       then for each entry: member, version that was not taken
-- Returns for each how often its version was tried, as far as it was due, and how often of that others were taken;
--         0 and 0 where there is another version, or none pending
-- include: now_ms
local now = now_ms()
local counts = {}

for i = 3, #KEYS do
  local at = 6 + (i - 3) * 2
  local member, version, tried, blamed = ARGV[at], ARGV[at + 1], 0, 0
  local due = redis.call('ZSCORE', KEYS[1], member)
  local noted = redis.call('HGET', KEYS[2], member)
  if due and noted and string.sub(noted, 1, 16) == version and redis.call('GETRANGE', KEYS[i], 0, 15) == version then
    local note, tried_before, blamed_before = string.match(noted, '^(%S+ %S+ %S*) ?(%d*) ?(%d*)$')
    tried, blamed = tonumber(tried_before) or 0, tonumber(blamed_before) or 0
    due = tonumber(due)
    if due <= now or due > now + ARGV[4] then  -- who is drained early is not given up early
      tried, blamed = tried + 1, blamed + ARGV[5]
      local delay = math.min(ARGV[1] * 2 ^ math.min(tried - 1, 20), tonumber(ARGV[2])) * ARGV[3]
      redis.call('HSET', KEYS[2], member, note .. ' ' .. tried .. ' ' .. blamed)
      redis.call('ZADD', KEYS[1], string.format('%.0f', now + math.ceil(delay)), member)
    end
  end
  table.insert(counts, tried)
  table.insert(counts, blamed)
end
return counts
