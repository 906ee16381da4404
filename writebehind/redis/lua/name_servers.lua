#!lua flags=allow-oom
-- Record which servers are used, on one of them.
--
-- KEYS  1 server
-- ARGV  1 its name  2 the names of all that are used, joined by commas
-- Returns 1, or 0 when it has another name
local server = KEYS[1]
local name = redis.call('HGET', server, 'name')
if name and name ~= ARGV[1] then
  return 0
end
local now = redis.call('TIME')
redis.call('HSET', server, 'name', ARGV[1], 'servers', ARGV[2], 'epoch', now[1] .. '.' .. now[2])
return 1
