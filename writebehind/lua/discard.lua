#!lua flags=allow-oom
-- Forget a dead letter and, where it is the one that MongoDB refused, its entry: readers see what MongoDB has.
--
-- KEYS  1 entry  2 dead  3 dead_counts  4 load
-- ARGV  1 member  2 the dead letter as the caller has seen it  3 the version that was refused
-- Returns 1, or 0 when the letter is another one by now, or gone
local entry, dead, counts, load = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local member = ARGV[1]

if redis.call('HGET', dead, member) ~= ARGV[2] then
  return 0
end
redis.call('HDEL', dead, member)
redis.call('HINCRBY', counts, string.match(member, '^[^/]*'), -1)
if redis.call('GETRANGE', entry, 0, 15) == ARGV[3] then
  redis.call('DEL', entry, load)
end
return 1
