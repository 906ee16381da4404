#!lua flags=allow-oom
-- Add a point to the history, and forget the oldest ones: also in a Redis that is full, when it matters most, as it takes
-- the place of another one.
--
-- KEYS  1 history_lease  2 history  3 history_coarse
-- ARGV  1 token of the recorder  2 the point  3 most points of a second
--       4 the point of a longer time, '' for none yet  5 most of those
-- Returns 1, or 0 when somebody else has the lease by now: then nothing is recorded
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for at = 2, 3 do
  local point, most = ARGV[2 * at - 2], tonumber(ARGV[2 * at - 1])
  if point ~= '' then
    redis.call('LTRIM', KEYS[at], 0, most - 2)
    redis.call('LPUSH', KEYS[at], point)
  end
end
return 1
