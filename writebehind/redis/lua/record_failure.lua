#!lua flags=allow-oom
-- Note that MongoDB did not serve. Enough of that opens the breaker, and each probe that fails keeps it open longer.
--
-- KEYS  1 breaker
-- ARGV  1 why  2 '1' when the caller was the one who may find out  3 failures that open it
--       4 window in which they must fall, ms  5 first interval between probes, ms  6 longest interval, ms
--       7 '1' when MongoDB gives no sign of life: that alone opens it, and it is asked for one at the first interval
-- Returns ms until somebody may find out; 0 while the breaker is closed
-- include: now_ms
local breaker = KEYS[1]
local why, probing, threshold, window = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local first, longest, silent = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'

local now = now_ms()
local found = redis.call('HMGET', breaker, 'state', 'until', 'interval', 'failures')
-- What other hands have taken out or made unreadable counts as the least.
local due = tonumber(found[2] or '') or 0
local last = math.min(longest, math.max(first, tonumber(found[3] or '') or 0))

if found[1] and probing ~= '1' then
  if silent then
    redis.call('HSET', breaker, 'silent', '1')
  end
  -- Begun before it opened: says nothing new. The clock may have been set back since.
  return math.min(math.max(0, due - now), last)
end
local interval = first
if found[1] then
  interval = silent and first or math.min(longest, last * 2)
else
  local failures = math.max(0, tonumber(found[4] or '') or 0) + 1
  redis.call('HSET', breaker, 'failures', failures)
  if failures < threshold and not silent then
    redis.call('PEXPIRE', breaker, window)
    return 0
  end
  redis.call('HSET', breaker, 'since', now)
  redis.call('PERSIST', breaker)
end
redis.call('HSET', breaker, 'state', 'open', 'why', why, 'interval', interval, 'until', now + interval)
if silent then
  redis.call('HSET', breaker, 'silent', '1')
end
return interval
