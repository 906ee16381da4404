#!lua flags=allow-oom
-- Note once more where a partition has gone to, for who waits until replicas have that, and lets it arrive then.
--
-- KEYS  1 server  2 frozen
-- ARGV  1 partition, or home  2 where it has gone to, as `leave_server` has it
-- Returns 1, -1 when it is frozen still, and may be taken back, or 0 when it has not gone there
local left = 'left:' .. ARGV[1]
if redis.call('HGET', KEYS[1], left) ~= ARGV[2] then
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return -1
end
redis.call('HSET', KEYS[1], left, ARGV[2])
return 1
