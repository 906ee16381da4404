#!lua
-- Add names to a list that has a bound, in the order in which they come, as long as there is room.
--
-- KEYS  1 labels
-- ARGV  1 how many there may be  2 ... names
-- Returns the list, those that came first before the others
local labels, most = KEYS[1], tonumber(ARGV[1])

local last = redis.call('ZRANGE', labels, -1, -1, 'WITHSCORES')[2]
local turn, room = tonumber(last or '') or 0, most - redis.call('ZCARD', labels)
for at = 2, #ARGV do
  if room <= 0 then
    break
  end
  local added = redis.call('ZADD', labels, 'NX', turn + 1, ARGV[at])
  turn, room = turn + added, room - added
end
return redis.call('ZRANGE', labels, 0, most - 1)
