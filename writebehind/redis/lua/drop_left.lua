#!lua flags=allow-oom
-- Drop keys of a partition that has gone to another server.
--
-- KEYS  1 server  2… any key
-- ARGV  1 partition, or home  2 '1' when these were the last
-- Returns 1, or 0 when it has not gone, or is coming back
local server, left = KEYS[1], 'left:' .. ARGV[1]
if redis.call('HEXISTS', server, left) == 0 then
  return 0
end
for at = 2, #KEYS do
  redis.call('UNLINK', KEYS[at])
end
if ARGV[2] == '1' then
  redis.call('HDEL', server, left)
end
return 1
