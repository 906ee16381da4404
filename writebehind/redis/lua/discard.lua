#!lua flags=allow-oom
-- Forget a dead letter with its document: what is kept beside it, or else the entry. Readers see what MongoDB has.
--
-- KEYS  1 entry  2 dead  3 dead_counts  4 load  5 kept  6 crowded  7 counts  8 fates
-- ARGV  1 member  2 name of the letter: the member where its document is the entry  3 the letter as the caller has
--       seen it  4 how many documents are kept of a member when no new write is taken
--       5 '1' to count it, '' where the letter stands elsewhere from now on
-- Returns 1, or 0 when the letter is another one by now, or gone
-- include: count, note_apart
local entry, dead, counts, load, kept, crowded = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local member, name = ARGV[1], ARGV[2]
local version = string.sub(ARGV[3], 1, 16)

if redis.call('HGET', dead, name) ~= ARGV[3] then
  return 0
end
if ARGV[5] == '1' then note_apart(KEYS[8], member, version, name ~= member) end
redis.call('HDEL', dead, name)
redis.pcall('HINCRBY', counts, string.match(member, '^[^/]*'), -1)
if name ~= member then
  redis.call('HDEL', kept, version)
  if redis.call('HLEN', kept) < tonumber(ARGV[4]) then redis.call('SREM', crowded, member) end
elseif redis.call('GETRANGE', entry, 0, 15) == version then
  redis.call('DEL', entry, load)
end
if ARGV[5] == '1' then count(KEYS[7], 'discarded', 1) end
return 1
