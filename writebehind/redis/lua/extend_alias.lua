#!lua flags=allow-oom
-- Let an alias live as long as the entry of the document that it was seen to lead to.
--
-- KEYS  1 alias
-- ARGV  1 the member that it leads to  2 its TTL, ms
-- Returns 1, or 0 when it leads to something else by now: that nobody has a value is not remembered for so long
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
