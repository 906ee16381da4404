#!lua flags=allow-oom
-- Note that flushing is paused from now on; one that is paused already goes on with the new end. What is over is forgotten.
--
-- KEYS  1 paused
-- ARGV  1 the collection, '*' for all  2 for how long, ms; '' until it is resumed
-- Returns the note: since when, and until when, ms; 'since -' where it has no end
-- include: now_ms
local now, since = now_ms(), nil
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local began, ends = string.match(all[i + 1], '^(%d+) (%S+)$')
  if not began or (ends ~= '-' and (tonumber(ends) or 0) <= now) then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] == ARGV[1] then
    since = began
  end
end
local ends = ARGV[2] == '' and '-' or string.format('%.0f', now + ARGV[2])
local note = (since or string.format('%.0f', now)) .. ' ' .. ends
redis.call('HSET', KEYS[1], ARGV[1], note)
return note
