#!lua flags=allow-oom
-- May MongoDB be asked? While the breaker is open, one caller per interval may find out.
--
-- KEYS  1 breaker
-- ARGV  1 how long the one who may find out has for it, ms: then another may
-- Returns {'closed'}
--       {'open', ms until somebody may find out, why}
--       {'probe'}  the caller may, and says afterwards how it went
local breaker = KEYS[1]

local found = redis.call('HMGET', breaker, 'state', 'until', 'why', 'interval')
if not found[1] then
  return {'closed'}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = tonumber(found[2]) - now
-- More than anybody was told to wait: the clock was set back. Nobody waits for it to catch up.
if left > 0 and left <= math.max(tonumber(found[4]), tonumber(ARGV[1])) then
  return {'open', left, found[3]}
end
redis.call('HSET', breaker, 'state', 'half-open', 'until', now + tonumber(ARGV[1]))
return {'probe'}
