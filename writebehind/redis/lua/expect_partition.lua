#!lua flags=allow-oom
-- Let a server expect a partition that is copied to it, by whoever began last.
--
-- KEYS  1 server
-- ARGV  1 partition, or home  2 the token of whoever copies it
-- Returns 1, or 0 when it is here already
local server = KEYS[1]
if redis.call('HEXISTS', server, ARGV[1]) == 1 then
  return 0
end
redis.call('HSET', server, 'expected:' .. ARGV[1], ARGV[2])
redis.call('HDEL', server, 'left:' .. ARGV[1])
return 1
