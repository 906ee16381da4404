#!lua flags=allow-oom
-- Forget that documents wait for another one: MongoDB has them.
--
-- KEYS  1 awaited  2 waiting: of the document that is waited for
-- ARGV  1 the member that is waited for  2… the members that wait no more
-- Returns how many go on waiting for it
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[2], ARGV[i])
end
local left = redis.call('HLEN', KEYS[2])
if left == 0 then
  redis.call('SREM', KEYS[1], ARGV[1])
end
return left
