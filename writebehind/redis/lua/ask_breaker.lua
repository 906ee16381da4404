#!lua flags=allow-oom
-- May MongoDB be asked? While the breaker is open, one caller per interval may find out.
--
-- KEYS  1 breaker
-- ARGV  1 how long the one who may find out has for it, ms: then another may  2 longest interval between probes, ms
--       3 '1' where the caller only asks MongoDB for a sign of life. While it gives none nobody else may find out, and
--         once it does the caller may not
-- Returns {'closed'}
--       {'open', ms until somebody may find out, why, '1' while MongoDB gives no sign of life, else ''}
--       {'probe'}  the caller may, and says afterwards how it went
-- include: now_ms
local breaker = KEYS[1]

local found = redis.call('HMGET', breaker, 'state', 'until', 'why', 'silent')
if not found[1] then
  return {'closed'}
end
local now = now_ms()
-- What other hands have taken out or made unreadable keeps nobody waiting.
local left = (tonumber(found[2] or '') or 0) - now
local silent = found[4] == '1'
local waits = left > 0 and left <= math.max(tonumber(ARGV[1]), tonumber(ARGV[2]))
if silent ~= (ARGV[3] == '1') then
  return {'open', waits and left or 0, found[3] or '', silent and '1' or ''}
end
-- More than anybody was told to wait: the clock was set back. Nobody waits for it to catch up.
if waits then
  return {'open', left, found[3] or '', silent and '1' or ''}
end
redis.call('HSET', breaker, 'until', now + tonumber(ARGV[1]))
if not silent then
  redis.call('HSET', breaker, 'state', 'half-open')
end
return {'probe'}
