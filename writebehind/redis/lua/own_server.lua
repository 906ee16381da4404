#!lua flags=allow-oom
-- Record which MongoDB database a server among several belongs to.
--
-- KEYS  1 server
-- ARGV  1 its name  2 the database  3 '1' to replace what is recorded, as where all of them are given to another one
-- Returns 1, or 0 when it has another name or none, or what is recorded stays
local server = KEYS[1]
if redis.call('HGET', server, 'name') ~= ARGV[1] then
  return 0
end
if ARGV[3] == '1' then
  redis.call('HSET', server, 'database', ARGV[2])
  return 1
end
return redis.call('HSETNX', server, 'database', ARGV[2])
