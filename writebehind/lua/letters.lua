#!lua flags=allow-oom
-- Some members that have a dead letter, without the letters, which may be large.
--
-- KEYS  1 dead
-- ARGV  1 cursor of the scan  2 about how many
-- Returns {cursor of the next call ('0' after the last), {member, …}}
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local members = {}
for i = 1, #found[2], 2 do
  members[#members + 1] = found[2][i]
end
return {found[1], members}
