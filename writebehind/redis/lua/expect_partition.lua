#!lua flags=allow-oom
-- Let a server expect a partition that is copied to it, by whoever began last; or again, by who said that all of it is
-- here, and goes on to copy. Who takes it for being here already looks again.
--
-- KEYS  1 server
-- ARGV  1 partition, or home  2 the token of whoever copies it  3 the mark with which that one said so; else ''
-- Returns 1
--         0  it is here already, or somebody else has begun to copy it
--         -1  nothing is recorded here: what it is to have is for those to say who record it
local server, whole = KEYS[1], 'whole:' .. ARGV[1]
if redis.call('HEXISTS', server, 'name') == 0 then
  return -1
end
if redis.call('HEXISTS', server, ARGV[1]) == 1 or (ARGV[3] ~= '' and redis.call('HGET', server, whole) ~= ARGV[3]) then
  return 0
end
local now = redis.call('TIME')
redis.call('HSET', server, 'expected:' .. ARGV[1], ARGV[2], 'epoch', now[1] .. '.' .. now[2])
redis.call('HDEL', server, 'left:' .. ARGV[1], whole)
return 1
