#!lua flags=allow-oom
-- Let a document be pending again: MongoDB has lost it, or its mark of being pending is lost.
--
-- KEYS  1 entry  2 pending  3 load  4 dead  5 counts
-- ARGV  1 member  2 what stood before the body of the entry when it was compared  3 delay until it is due, ms
-- Returns 1, or 0 when it is pending or dead already, or the entry is another one
-- include: now_ms, count
if redis.call('GETRANGE', KEYS[1], 0, 48) ~= ARGV[2] then
  return 0
end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1 then
  return 0
end
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], now_ms() + tonumber(ARGV[3]), ARGV[1])
redis.call('DEL', KEYS[3])
count(KEYS[5], 'marked', 1)
return 1
