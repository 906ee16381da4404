#!lua flags=allow-oom
-- Take a lease, or renew it; and note something, as long as it is held.
--
-- KEYS  1 any lease  2 any key: where something is noted
-- ARGV  1 token of the caller  2 life of the lease, ms  3 '1' to take it, '' to renew it only if it is held still
--       4 what to note
-- Returns 1, or 0 when somebody else has the lease, or had it since: then nothing is noted
-- include: cut_life
local owner = redis.call('GET', KEYS[1])
if owner and redis.call('PTTL', KEYS[1]) == -1 then
  owner = false  -- each has a life: one without was put there by hand, and would be held for ever
end
if owner ~= ARGV[1] and (owner or ARGV[3] ~= '1') then
  cut_life(KEYS[1], ARGV[2])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[2] then
  redis.call('SET', KEYS[2], ARGV[4])
end
return 1
