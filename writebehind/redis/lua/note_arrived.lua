#!lua flags=allow-oom
-- Note that a partition is certain to be where it has gone to: what is left of it here is only to be dropped.
--
-- KEYS  1 server
-- ARGV  1 partition, or home  2 where it has gone to, as `leave_server` has it  3 the same with the mark `over`
-- Returns 1, or 0 when it has not gone there
local left = 'left:' .. ARGV[1]
if redis.call('HGET', KEYS[1], left) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], left, ARGV[3])
return 1
