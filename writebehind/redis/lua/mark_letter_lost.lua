#!lua flags=allow-oom
-- Let a dead letter say that its document is lost, if it is still the one that was looked at, and its document is gone.
-- From then on it has a name with its version, so that no write takes its place.
--
-- KEYS  1 dead  2 dead_counts  3 entry  4 kept  5 crowded
-- ARGV  1 member  2 name of the letter  3 the letter as it was: 16 digits of version, then JSON  4 the letter from now on
--       5 how many documents are kept of a member when no new write is taken
-- Returns 1, or 0 when it is another one, or its document is there
-- include: keep_lost_letter
local dead, counts, entry, kept, crowded = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local member, name, version = ARGV[1], ARGV[2], string.sub(ARGV[3], 1, 16)

if redis.call('HGET', dead, name) ~= ARGV[3] then
  return 0
end
if name == member and redis.call('GETRANGE', entry, 0, 15) == version then
  return 0
end
if name ~= member and redis.call('HSTRLEN', kept, version) > 0 then
  return 0
end
keep_lost_letter(dead, counts, kept, crowded, member, name, ARGV[4], ARGV[5])
return 1
