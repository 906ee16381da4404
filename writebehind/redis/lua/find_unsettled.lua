#!lua flags=no-writes,allow-oom
-- Whether members are pending, and their dead letters, at one moment: what goes from one to the other meanwhile is
-- not missed.
--
-- KEYS  1 pending  2 dead
-- ARGV  members, or names of dead letters
-- Returns {when it is due or nothing, its letter or nothing, …}
local found = {}
for i, name in ipairs(ARGV) do
  found[2 * i - 1] = redis.call('ZSCORE', KEYS[1], name)
  found[2 * i] = redis.call('HGET', KEYS[2], name)
end
return found
