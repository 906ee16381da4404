#!lua flags=allow-oom
-- Let go of a partition that has moved on, on a server that has come back without that: a replica that did not know it has
-- taken its place.
--
-- KEYS  1 server
-- ARGV  1 partition, or home  2 how often it has moved by now  3 where it has gone to, as `leave_server` has it
-- Returns 1, or 0 when it is not here, or has come back since
local here = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '')
if not here or here >= tonumber(ARGV[2]) then
  return 0
end
local now = redis.call('TIME')
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'left:' .. ARGV[1], ARGV[3], 'epoch', now[1] .. '.' .. now[2])
return 1
