#!lua flags=allow-oom
-- Forget that a document waits for another one: MongoDB has it.
--
-- KEYS  1 awaited
-- ARGV  1 the member that is waited for  2… the members that wait no more
-- Returns how many go on waiting for it
local noted = redis.call('HGET', KEYS[1], ARGV[1])
local waiting, count = noted and cjson.decode(noted) or {}, 0
for i = 2, #ARGV do
  waiting[ARGV[i]] = nil
end
for _ in pairs(waiting) do
  count = count + 1
end
if count > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(waiting))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return count
