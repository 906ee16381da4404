#!lua flags=allow-oom
-- Let a partition be here that was expected, and has left where it was.
--
-- KEYS  1 server
-- ARGV  1 partition, or home  2 how often it has moved
-- Returns 1, or 0 when it was not expected, or is here already
local server, expected = KEYS[1], 'expected:' .. ARGV[1]
if redis.call('HEXISTS', server, expected) == 0 then
  return 0
end
local now = redis.call('TIME')
redis.call('HDEL', server, expected)
redis.call('HSET', server, ARGV[1], ARGV[2], 'epoch', now[1] .. '.' .. now[2])
return 1
