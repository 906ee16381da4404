#!lua flags=allow-oom
-- Let the versions of a partition leap, once on each primary that was a replica before: it may have missed the last ones
-- that were issued, and the clock of its machine may be behind.
--
-- KEYS  1 clock  2 term  3 lapses
-- ARGV  1 replication id of the server, which is a new one after each failover
--       2 how far beyond the clock of Redis they go on, µs  3 how far beyond the last one that is known here, µs
--       4 how many failovers are remembered
-- Returns 1 they have leapt, 0 somebody else has seen to it
-- include: now_us, last_version, leap_versions
if redis.pcall('GET', KEYS[2]) == ARGV[1] then return 0 end  -- pcall: what other hands have put there is in the way of nothing
leap_versions(KEYS[1], KEYS[3], ARGV[2], ARGV[3], ARGV[4])
redis.call('SET', KEYS[2], ARGV[1])
return 1
