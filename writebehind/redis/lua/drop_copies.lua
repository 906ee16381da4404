#!lua flags=allow-oom
-- Drop copies of a partition that is expected here, as it does not come; also while this server is full.
--
-- KEYS  1 server  2… any key
-- ARGV  1 partition, or home  2 the token of whoever may copy it  3 '1' when these were the last: it is expected no more
-- Returns 1, or 0 when somebody else has begun to copy it, or all of it is here
local server, expected = KEYS[1], 'expected:' .. ARGV[1]
if redis.call('HGET', server, expected) ~= ARGV[2] then
  return 0
end
for at = 2, #KEYS do
  redis.call('UNLINK', KEYS[at])
end
if ARGV[3] == '1' then
  redis.call('HDEL', server, expected)
end
return 1
