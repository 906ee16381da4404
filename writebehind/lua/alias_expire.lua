#!lua flags=allow-oom
-- Give an alias a TTL, as MongoDB has what it leads to: unless it leads to something else by now.
--
-- KEYS  1 alias
-- ARGV  1 where it leads  2 its TTL, ms
-- Returns 1, or 0 when it leads to something else
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
