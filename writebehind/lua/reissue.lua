#!lua flags=allow-oom
-- Give what is pending the next version, so that it is written to MongoDB once more: somebody else may have changed
-- the document since MongoDB was given the version that is pending, and whoever settles that would not notice.
--
-- The next version, and not one of now: it goes on telling when the write was acknowledged. No write has it, as the
-- clock is moved on with it.
--
-- KEYS  1 entry  2 pending  3 clock
-- ARGV  1 member
-- Returns 1, or 0 when it is not pending any more, or its entry is lost
local header = redis.call('GETRANGE', KEYS[1], 0, 15)
if header == '' or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
local version = string.format('%016.0f', tonumber(header) + 1)
redis.call('SETRANGE', KEYS[1], 0, version)
if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(version) then
  redis.call('SET', KEYS[3], version)
end
return 1
