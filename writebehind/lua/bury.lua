#!lua flags=allow-oom
-- Move a member that MongoDB refuses for good to the dead letters. Readers keep seeing its entry, unless told not to.
--
-- KEYS  1 entry  2 pending  3 dead  4 dead_counts  5 load  6 sent
-- ARGV  1 member  2 version that was refused ('' when the entry is gone)  3 the dead letter, JSON
--       4 '1' to drop the entry, because MongoDB has what stands: then the letter has the body
-- Returns 1
--       0  there is another version, which stays as it is
--       2  it is not pending any more: another flusher has settled it, and it is dropped all the same where that was
--          asked for; or it is a dead letter already, whose body is nowhere else, and stays
local entry, pending, dead, counts, load, sent = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local member, version = ARGV[1], ARGV[2]

if redis.call('GETRANGE', entry, 0, 15) ~= version then
  return 0
end
local result = 2
if redis.call('ZREM', pending, member) == 1 then
  redis.call('HDEL', sent, member)
  redis.call('HSET', dead, member, ARGV[3])
  redis.call('HINCRBY', counts, string.match(member, '^[^/]*'), 1)
  result = 1
end
-- What has no TTL and is not ours to bury is refused already: its letter has no body.
if ARGV[4] == '1' and (result == 1 or redis.call('PTTL', entry) ~= -1) then
  redis.call('DEL', entry, load)  -- the token too: a fill on its way may carry an older value
end
return result
