#!lua flags=allow-oom
-- Let a partition stay where it was about to leave, as replicas do not have that it left: it has arrived nowhere while it is
-- frozen.
--
-- KEYS  1 server  2 frozen
-- ARGV  1 partition, or home  2 the token of whoever let it leave  3 how often it had moved before
-- Returns 1, or 0 when it is not frozen any more
if redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 0
end
local now = redis.call('TIME')
redis.call('HDEL', KEYS[1], 'left:' .. ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3], 'epoch', now[1] .. '.' .. now[2])
return 1
