#!lua flags=allow-oom
-- Take over a dead letter, with what is kept beside it, that stands in another partition than its document's own.
-- Running it again changes nothing.
--
-- KEYS  1 dead  2 dead_counts  3 kept  4 crowded  5 fates
-- ARGV  1 member  2 name of the letter, which has its version in it  3 that version  4 the letter
--       5 the document that is kept, '' where it is lost  6 how many documents are kept of a member when no new write is taken
-- Returns 1, or 0 when there is a letter of that name
-- include: note_apart
local dead, kept, member = KEYS[1], KEYS[3], ARGV[1]

note_apart(KEYS[5], member, ARGV[3], true)
redis.call('HSETNX', kept, ARGV[3], ARGV[5])
if redis.call('HLEN', kept) >= tonumber(ARGV[6]) then redis.call('SADD', KEYS[4], member) end
if redis.call('HSETNX', dead, ARGV[2], ARGV[4]) == 0 then
  return 0
end
redis.pcall('HINCRBY', KEYS[2], string.match(member, '^[^/]*'), 1)
return 1
