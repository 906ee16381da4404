#!lua flags=no-writes,allow-oom
-- The names of some dead letters, without the letters, which may be large.
--
-- KEYS  1 dead
-- ARGV  1 cursor of the scan  2 about how many
-- Returns {cursor of the next call ('0' after the last), {name, …}}
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local names = {}
for i = 1, #found[2], 2 do
  names[#names + 1] = found[2][i]
end
return {found[1], names}
