#!lua flags=allow-oom
-- Move a member that MongoDB refuses for good to the dead letters. Readers keep seeing its entry, unless told not to.
--
-- KEYS  1 entry  2 pending  3 dead  4 dead_counts
-- ARGV  1 member  2 version that was refused ('' when the entry is gone)  3 the dead letter, JSON
--       4 '1' to drop the entry, because MongoDB has a newer version
-- Returns 1
--       0  there is a newer version, which stays pending
--       2  it is not pending any more: another flusher has settled or buried it
local entry, pending, dead, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member, version = ARGV[1], ARGV[2]

if redis.call('GETRANGE', entry, 0, 15) ~= version then
  return 0
end
if ARGV[4] == '1' then
  redis.call('DEL', entry)
end
if redis.call('ZREM', pending, member) == 0 then
  return 2
end
redis.call('HSET', dead, member, ARGV[3])
redis.call('HINCRBY', counts, string.match(member, '^[^/]*'), 1)
return 1
