#!lua flags=allow-oom
-- Let go of a partition that another server has all of, if it has been frozen since. It stays frozen until replicas have
-- this: it may be taken back until then, and arrives nowhere.
--
-- KEYS  1 server  2 frozen
-- ARGV  1 partition, or home  2 the token of whoever has copied it  3 where it goes, how often it has moved then, and the
--       mark by which it arrives, with how many replicas its mover asks for behind a `+`  4 for how long it stays frozen, ms
-- Returns 1, or 0 when something may have changed meanwhile
if redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 0
end
local now = redis.call('TIME')
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'left:' .. ARGV[1], ARGV[3], 'epoch', now[1] .. '.' .. now[2])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
return 1
