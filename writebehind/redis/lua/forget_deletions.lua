#!lua flags=allow-oom
-- Forget deletions that were audited, except where the member was deleted again meanwhile.
--
-- KEYS  1 deleted  2 deleted_at
-- ARGV  for each deletion: member, version
-- Returns how many were forgotten
local deleted, deleted_at = KEYS[1], KEYS[2]
local forgotten = 0

for at = 1, #ARGV, 2 do
  local member, version = ARGV[at], ARGV[at + 1]
  if tonumber(redis.call('ZSCORE', deleted, member) or '-1') == tonumber(version) then
    redis.call('ZREM', deleted_at, member)
    forgotten = forgotten + redis.call('ZREM', deleted, member)
  end
end
return forgotten
