#!lua flags=allow-oom
-- Take over what another division of Redis knew: versions go on growing, and deletions are still to be audited.
-- Running it again changes nothing.
--
-- KEYS  1 clock  2 deleted  3 deleted_at
-- ARGV  1 the last version that was issued anywhere
--       then for each deletion: member, version
-- Returns 1
-- include: now_ms, last_version
local clock, deleted, deleted_at = KEYS[1], KEYS[2], KEYS[3]

if last_version(redis.call('GET', clock)) < tonumber(ARGV[1]) then
  redis.call('SET', clock, ARGV[1])
end
local now = now_ms()
for at = 2, #ARGV, 2 do
  redis.call('ZADD', deleted, 'GT', ARGV[at + 1], ARGV[at])
  redis.call('ZADD', deleted_at, now, ARGV[at])
end
return 1
