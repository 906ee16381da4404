#!lua flags=allow-oom
-- May MongoDB be asked? While the breaker is open, one caller per interval may find out.
--
-- KEYS  1 breaker
-- ARGV  1 how long the one who may find out has for it, ms: then another may  2 longest interval between probes, ms
-- Returns {'closed'}
--       {'open', ms until somebody may find out, why}
--       {'probe'}  the caller may, and says afterwards how it went
-- include: now_ms
local breaker = KEYS[1]

local found = redis.call('HMGET', breaker, 'state', 'until', 'why')
if not found[1] then
  return {'closed'}
end
local now = now_ms()
-- What other hands have taken out or made unreadable keeps nobody waiting.
local left = (tonumber(found[2] or '') or 0) - now
-- More than anybody was told to wait: the clock was set back. Nobody waits for it to catch up.
if left > 0 and left <= math.max(tonumber(ARGV[1]), tonumber(ARGV[2])) then
  return {'open', left, found[3] or ''}
end
redis.call('HSET', breaker, 'state', 'half-open', 'until', now + tonumber(ARGV[1]))
return {'probe'}
