#!lua flags=allow-oom
-- Forget documents that have gone to other partitions as this one was divided; not what somebody has put here since, who
-- did not know of that: it is brought home later.
--
-- KEYS  1 leaving  2 pending  3… entry: of each member
-- ARGV  the members
-- Returns how many entries were dropped
local last, dropped = tonumber(redis.call('GET', KEYS[1]) or '0'), 0
for at, member in ipairs(ARGV) do
  local version = redis.call('GETRANGE', KEYS[at + 2], 0, 15)
  if version == '' or (tonumber(version) or 0) <= last then
    dropped = dropped + redis.call('DEL', KEYS[at + 2])
    redis.call('ZREM', KEYS[2], member)
  end
end
return dropped
