#!lua flags=allow-oom
-- Let the versions of a partition leap, once on each primary that was a replica before: it may have missed the last ones
-- that were issued, and the clock of its machine may be behind.
--
-- KEYS  1 clock  2 term  3 lapses
-- ARGV  1 replication id of the server, which is a new one after each failover
--       2 how far beyond the clock of Redis they go on, µs  3 how far beyond the last one that is known here, µs
--       4 how many failovers are remembered
-- Returns 1 they have leapt, 0 somebody else has seen to it
-- include: now_us, last_version
if redis.pcall('GET', KEYS[2]) == ARGV[1] then return 0 end  -- pcall: what other hands have put there is in the way of nothing
local known = redis.pcall('GET', KEYS[1])
local last = last_version(type(known) == 'string' and known)
local now = now_us()
local version = math.max(now + ARGV[2], last + ARGV[3])
if version < 4503599627370495 then  -- 2^52 - 1: the last version
  redis.call('SET', KEYS[1], string.format('%016.0f', version))
  -- Whatever was issued in between by a former primary is lost here.
  redis.pcall('LPUSH', KEYS[3], string.format('%.0f %.0f %.0f', last, version, now))
  redis.pcall('LTRIM', KEYS[3], 0, ARGV[4] - 1)
end
redis.call('SET', KEYS[2], ARGV[1])
return 1
