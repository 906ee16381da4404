#!lua flags=no-writes,allow-oom
-- What MongoDB may not have of a partition, at one moment: what goes from one to the other meanwhile is not missed.
--
-- KEYS  1 pending  2 dead  3 dead_counts
-- ARGV  1 collection  2 how many pending members at most  3 '1' for dead letters too
-- Returns {{pending member, …}, {name of a dead letter, …}}: of all collections, and no letters where this one has none
local pending = redis.call('ZRANGE', KEYS[1], '+inf', '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[2])
if ARGV[3] ~= '1' or (redis.call('HGET', KEYS[3], ARGV[1]) or '0') == '0' then
  return {pending, {}}
end
return {pending, redis.call('HKEYS', KEYS[2])}
