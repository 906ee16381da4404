#!lua flags=allow-oom
-- Record what a server among several is, and what is on it, as far as nobody has yet.
--
-- KEYS  1 server
-- ARGV  1 its name  2 the epoch of its record, as that was seen; '' for none  3 the names of all that are used, joined by
--       commas  4… partitions that are on it, and home, each with how often it has moved
-- Returns 1, or 0 when it has another record by now. One without a name gets that, and is then to be seen first: others
--         have written to it after it was emptied
local server = KEYS[1]
local name = redis.pcall('HGET', server, 'name')
if type(name) == 'table' then -- other hands put something else there
  redis.call('DEL', server)
  name = false
end
local now = redis.call('TIME')
local epoch = now[1] .. '.' .. now[2]
if not name and redis.call('EXISTS', server) == 1 then
  redis.call('HSET', server, 'name', ARGV[1], 'servers', ARGV[3], 'epoch', epoch)
  return 0
end
if (name or ARGV[1]) ~= ARGV[1] or (redis.call('HGET', server, 'epoch') or '') ~= ARGV[2] then
  return 0
end
local added = 0
if not name then
  added = redis.call('HSET', server, 'name', ARGV[1], 'servers', ARGV[3])
end
for at = 4, #ARGV, 2 do
  local place = ARGV[at]
  added = added + redis.call('HSETNX', server, place, ARGV[at + 1])
  redis.call('HDEL', server, 'expected:' .. place, 'whole:' .. place, 'left:' .. place)  -- who was copying it has something older
end
if added > 0 then
  redis.call('HSET', server, 'epoch', epoch)
end
return 1
