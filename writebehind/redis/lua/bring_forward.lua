#!lua flags=allow-oom
-- Let members be due now that somebody waits for: settling an older version has put them off, see settle.
-- What was set aside for a pause stays so. What MongoDB did not take stays put off, so that whoever waits does not ask for it without a pause: see postpone.
--
-- KEYS  1 pending  2 sent  3… entry: of each member
-- ARGV  the members
-- Returns how many of them are due
-- include: now_ms
local pending, sent, now = KEYS[1], KEYS[2], now_ms()
local due = 0

for i, member in ipairs(ARGV) do
  local note = redis.call('HGET', sent, member)
  local tried = note and string.match(note, '^(%d+)%S* %S+ %S* %d')
  local score = redis.call('ZSCORE', pending, member)
  if score and tonumber(score) >= 0 and tried ~= redis.call('GETRANGE', KEYS[i + 2], 0, 15) then
    redis.call('ZADD', pending, 'LT', now, member)
    due = due + 1
  end
end
return due
