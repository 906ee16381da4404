-- Put copies of keys into a partition that is expected here, or take out what is gone where they come from.
--
-- KEYS  1 server  2… any key
-- ARGV  1 partition, or home  2 the token of whoever copies it  3… of each key its life in ms, 0 for no end, and its
--       value as DUMP returns it; '' for one that is gone
-- Returns 1, or 0 when somebody else has begun to copy it, or it has arrived
local server, place = KEYS[1], ARGV[1]
if redis.call('HGET', server, 'expected:' .. place) ~= ARGV[2] then
  return 0
end
for at = 2, #KEYS do
  local life, value = ARGV[2 * at - 1], ARGV[2 * at]
  if value == '' then
    redis.call('DEL', KEYS[at])
  else
    redis.call('RESTORE', KEYS[at], life, value, 'REPLACE')
  end
end
return 1
