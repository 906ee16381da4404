-- Note a request for several writes by its idempotency key, before any of them is made: they have keys of their own, in their
-- partitions, and what tells it from another request with its key stands in this one. A receipt of version 0 says so.
--
-- KEYS  1 receipts  2 receipts_at  3 fates  4 counts
-- ARGV  1 collection/key  2 what is noted, its digest from byte 18 to 49  3 how long receipts are kept, ms
--       4 how many receipts are kept in this partition, and 5 how many at all: all are for 6 so long, ms
-- Returns 'new', 'same' where it is noted already, 'another' where a request with this key is that is another one
--         or ms, where too many receipts are too new to be forgotten: in so long one is not
-- include: now_ms, count, forget_fate, forget_oldest, room_after
local receipts, receipts_at, key = KEYS[1], KEYS[2], ARGV[1]
local now = now_ms()
local receipt = redis.call('HGET', receipts, key)
if receipt and tonumber(redis.call('ZSCORE', receipts_at, key) or '-inf') > now - ARGV[3] then
  return string.sub(receipt, 18, 49) == string.sub(ARGV[2], 18, 49) and 'same' or 'another'
end
local old_ms = now - ARGV[6]
local _, early, left = forget_oldest(receipts, receipts_at, KEYS[3], now - ARGV[3], ARGV[4] - 1, 4, old_ms)
count(KEYS[4], 'evicted_receipts', early)
local wait_ms = room_after(receipts_at, left, tonumber(ARGV[5]), old_ms)
if wait_ms then return tostring(wait_ms) end
if receipt then forget_fate(KEYS[3], receipt) end  -- it is over, and replaced
redis.call('HSET', receipts, key, ARGV[2])
redis.call('ZADD', receipts_at, now, key)
return 'new'
