#!lua flags=allow-oom
-- Drop keys of a partition that has gone to another server.
--
-- KEYS  1 server  2… any key
-- ARGV  1 partition, or home  2 where it has gone to, as `leave_server` has it  3 '1' when these were the last
-- Returns 1, or 0 when it has not gone there, or is here
local server, left = KEYS[1], 'left:' .. ARGV[1]
if redis.call('HGET', server, left) ~= ARGV[2] or redis.call('HEXISTS', server, ARGV[1]) == 1 then
  return 0
end
for at = 2, #KEYS do
  redis.call('UNLINK', KEYS[at])
end
if ARGV[3] == '1' then
  redis.call('HDEL', server, left)
end
return 1
