#!lua flags=allow-oom
-- Become or stay the one listener, and note how far it has come.
--
-- KEYS  1 lease  2 listener
-- ARGV  1 token of this listener  2 life of the lease, ms  3 what to note, '' for nothing
-- Returns {1, what was noted last or ''}
--       {0, ''}   another listener leads
-- include: cut_life
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  cut_life(KEYS[1], ARGV[2])
  return {0, ''}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[2], ARGV[3])
end
return {1, redis.call('GET', KEYS[2]) or ''}
