#!lua flags=allow-oom
-- Let a partition be here that has left where it was, if all of it is here. Where this server is another one than it was
-- copied to, the former one may have had it before and issued versions: they leap. Else they need not, whatever took the
-- place of another server before that. If it is here already, that is noted once more, for who waits until replicas have it.
--
-- KEYS  1 server  2 clock  3 term  4 lapses
-- ARGV  1 partition, or home  2 how often it has moved  3 the mark of who has copied it  4… as 2 to 4 of `leap`
-- Returns 1, or 0 when not all of it is here, or nothing is recorded; home has none of the keys from 2 on
-- include: now_us, last_version, leap_versions
local server, place, whole = KEYS[1], ARGV[1], 'whole:' .. ARGV[1]
if redis.call('HEXISTS', server, 'name') == 0 then
  return 0
end
local here = tonumber(redis.call('HGET', server, place) or '')
if here then
  redis.call('HSET', server, place, here)
  return here >= tonumber(ARGV[2]) and 1 or 0
end
if redis.call('HGET', server, whole) ~= ARGV[3] then
  return 0
end
local term = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
if KEYS[2] then
  if string.match(ARGV[3], '@(%w*)$') ~= term then
    leap_versions(KEYS[2], KEYS[4], ARGV[4], ARGV[5], ARGV[6])
  end
  redis.call('SET', KEYS[3], term)
end
local now = redis.call('TIME')
redis.call('HDEL', server, whole, 'expected:' .. place)
redis.call('HSET', server, place, ARGV[2], 'epoch', now[1] .. '.' .. now[2])
return 1
