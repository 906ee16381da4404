#!lua flags=allow-oom
-- Take a document's claim to a value back, unless it is that of a newer version.
--
-- KEYS  1 aliasclaims  2 alias
-- ARGV  1 member  2 version up to which  3 '1': the alias leads to the document from now on, as MongoDB may find it
--       4 TTL of the alias, ms
-- Returns 1, or 0 when there is no such claim
local claim = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not claim or tonumber(claim) > tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
if ARGV[3] == '1' then  -- in the same step: what was there may say that nobody has the value
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
end
return 1
