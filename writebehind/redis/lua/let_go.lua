#!lua flags=allow-oom
-- Forget a document here that its own partition has taken over, if it is still the one that was.
--
-- KEYS  1 entry  2 pending  3 load  4 sent  5 counts  6 traces
-- ARGV  1 member  2 what stood before the body of the entry: '' where there was none
-- Returns 1, or 0 when there is another one by now
-- include: count
local entry, pending, member = KEYS[1], KEYS[2], ARGV[1]

if redis.call('GETRANGE', entry, 0, 48) ~= ARGV[2] then
  return 0
end
count(KEYS[5], 'let_go', redis.call('ZREM', pending, member))
redis.call('HDEL', KEYS[4], member)
redis.pcall('HDEL', KEYS[6], member)
redis.call('DEL', entry, KEYS[3])
return 1
