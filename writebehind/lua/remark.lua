-- Let a document be pending again, because MongoDB has lost it.
--
-- KEYS  1 entry  2 pending  3 load
-- ARGV  1 member  2 what stood before the body of the entry when it was compared
-- Returns 1, or 0 when the entry is another one or has no TTL: then it is pending or dead already
if redis.call('GETRANGE', KEYS[1], 0, 48) ~= ARGV[2] or redis.call('PERSIST', KEYS[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('DEL', KEYS[3])
return 1
