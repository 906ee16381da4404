#!lua flags=allow-oom
-- See to it that what is pending is written to MongoDB after a change: if MongoDB may have been given the version that
-- is pending before, it gets the next one, so that whoever settles the former settles nothing.
--
-- The next version, and not one of now: it goes on telling when the write was acknowledged. No write has it, as the
-- clock is moved on with it, unless it is one that no clock has come to yet: see commit.
--
-- KEYS  1 entry  2 pending  3 clock  4 sent
-- ARGV  1 member
-- Returns 0  it is not pending any more, or its entry is lost
--         1  MongoDB has not been given it yet
--         2  it has the next version
-- include: now_us, last_version
local entry, member = KEYS[1], ARGV[1]

local version = redis.call('GETRANGE', entry, 0, 15)
if not tonumber(version) or not redis.call('ZSCORE', KEYS[2], member) then
  return 0
end
local sent = redis.call('HGET', KEYS[4], member)
if not sent or (tonumber(string.sub(sent, 1, 16)) or math.huge) < tonumber(version) then
  return 1
end
version = string.format('%016.0f', tonumber(version) + 1)
redis.call('SETRANGE', entry, 0, version)
local last = last_version(redis.call('GET', KEYS[3]))
local latest = math.min(math.max(now_us(), last + 1), 4503599627370495)  -- 2^52 - 1: the last version
if last < tonumber(version) and tonumber(version) <= latest then
  redis.call('SET', KEYS[3], version)
end
return 2
