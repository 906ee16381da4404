-- Add to how much documents have been read lately.
--
-- KEYS  1 hot  2 heat  3 warmed
-- ARGV  1 how many members are kept  2… member and reads, for each
-- Returns how many of them had been warmed, and are read for the first time since
-- include: now_ms
local hot, warmed = KEYS[1], KEYS[3]

redis.call('HSETNX', KEYS[2], 'since', now_ms())
local members = {}
for i = 2, #ARGV, 2 do
  redis.call('ZINCRBY', hot, ARGV[i + 1], ARGV[i])
  members[#members + 1] = ARGV[i]
end
local most = tonumber(ARGV[1])
if redis.call('ZCARD', hot) > 2 * most then  -- not each time: the coldest have to have a chance to grow
  redis.call('ZREMRANGEBYRANK', hot, 0, -(most + 1))
end
return redis.call('ZREM', warmed, unpack(members))
