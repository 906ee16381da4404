#!lua flags=allow-oom
-- Note that a server has all of a partition that was copied to it. Who has this note, such as a replica, has all that came
-- before it.
--
-- KEYS  1 server
-- ARGV  1 partition, or home  2 the token of whoever has copied it  3 the mark by which it may arrive; it ends with `@` and
--       the replication id of this server
-- Returns 1, or 0 when somebody else has begun to copy it
local server, expected = KEYS[1], 'expected:' .. ARGV[1]
if redis.call('HGET', server, expected) ~= ARGV[2] then
  return 0
end
redis.call('HDEL', server, expected)
redis.call('HSET', server, 'whole:' .. ARGV[1], ARGV[3])
return 1
