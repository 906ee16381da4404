#!lua flags=allow-oom
-- Decide about a pending version that MongoDB has a greater one than.
--
-- Where this Redis may have issued that one, it has lost a write, as in a failover, and MongoDB's is the newer. Where
-- it cannot have, the number comes from elsewhere: another Redis, a clock that was ahead, other hands. It was there
-- before the write that is pending, which gets the next version, and is written over it.
--
-- A number within a lapse is one that a former primary has issued, which had all that this one knows of before: its
-- write came over the one that is pending, which is over.
--
-- KEYS  1 entry  2 pending  3 clock  4 lapses  5 load  6 sent  7 traces  8 counts
-- ARGV  1 member  2 the pending version  3 the version that MongoDB has
-- Returns 0  another version is pending, or none
--         1  MongoDB's is the newer
--         2  what is pending has the next version
--         3  MongoDB's was written over it: it is dropped
-- include: now_us, last_version, count
local entry, pending, version, theirs = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3])

if redis.call('GETRANGE', entry, 0, 15) ~= version or not redis.call('ZSCORE', pending, ARGV[1]) then
  return 0
end
local last, now = last_version(redis.call('GET', KEYS[3])), now_us()
local latest = now < 4503599627370496 and math.max(now, last) or last  -- 2^52: the end of versions
if theirs <= latest then
  for _, lapse in ipairs(redis.pcall('LRANGE', KEYS[4], 0, -1)) do  -- of another type there are none
    local from, to = string.match(lapse, '^(%d+) (%d+) %d+$')
    if from and tonumber(from) < theirs and theirs <= tonumber(to) then
      redis.call('ZREM', pending, ARGV[1])
      redis.call('HDEL', KEYS[6], ARGV[1])
      redis.pcall('HDEL', KEYS[7], ARGV[1])
      redis.call('DEL', entry, KEYS[5])  -- the token too: a fill on its way may carry an older value
      count(KEYS[8], 'coalesced', 1)
      return 3
    end
  end
  return 1
end
redis.call('SETRANGE', entry, 0, string.format('%016.0f', theirs + 1))
return 2
