#!lua flags=allow-oom
-- Let a partition be back on the server that it has left, which has all of it still: the other one has lost it, and may have
-- issued versions before, so they leap.
--
-- KEYS  1 server  2 clock  3 term  4 lapses
-- ARGV  1 partition, or home  2 where it has gone to, as `leave_server` has it  3 how often it has moved now
--       4… as 2 to 4 of `leap`
-- Returns 1, or 0 when it has not gone there; home has none of the keys from 2 on
-- include: now_us, last_version, leap_versions
local server, left = KEYS[1], 'left:' .. ARGV[1]
if redis.call('HGET', server, left) ~= ARGV[2] then
  return 0
end
if KEYS[2] then
  leap_versions(KEYS[2], KEYS[4], ARGV[4], ARGV[5], ARGV[6])
  redis.call('SET', KEYS[3], string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)'))
end
local now = redis.call('TIME')
redis.call('HDEL', server, left)
redis.call('HSET', server, ARGV[1], ARGV[3], 'epoch', now[1] .. '.' .. now[2])
return 1
