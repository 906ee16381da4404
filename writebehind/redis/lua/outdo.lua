#!lua flags=allow-oom
-- Decide about a pending version that MongoDB has a greater one than.
--
-- Where this Redis may have issued that one, it has lost a write, as in a failover, and MongoDB's is the newer. Where
-- it cannot have, the number comes from elsewhere: another Redis, a clock that was ahead, other hands. It was there
-- before the write that is pending, which gets the next version, and is written over it.
--
-- KEYS  1 entry  2 pending  3 clock
-- ARGV  1 member  2 the pending version  3 the version that MongoDB has
-- Returns 0  another version is pending, or none
--         1  MongoDB's is the newer
--         2  what is pending has the next version
-- include: now_us, last_version
local entry, version, theirs = KEYS[1], ARGV[2], tonumber(ARGV[3])

if redis.call('GETRANGE', entry, 0, 15) ~= version or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
local last, now = last_version(redis.call('GET', KEYS[3])), now_us()
local latest = now < 4503599627370496 and math.max(now, last) or last  -- 2^52: the end of versions
if theirs <= latest then
  return 1
end
redis.call('SETRANGE', entry, 0, string.format('%016.0f', theirs + 1))
return 2
