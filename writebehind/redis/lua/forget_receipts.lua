#!lua flags=allow-oom
-- Forget receipts that are over, the oldest first, and those that are too many and too old to be asked for by who repeats a request.
--
-- KEYS  1 receipts  2 receipts_at  3 fates
-- ARGV  1 how long a receipt is kept, ms  2 how many to forget at most of each kind
--       3 how many are kept of those that were left so long ago, ms: 4
-- Returns how many were forgotten
-- include: now_ms, forget_fate, forget_oldest
local now, limit = now_ms(), tonumber(ARGV[2])
local until_ms = now - ARGV[1]
local forgotten = forget_oldest(KEYS[1], KEYS[2], KEYS[3], until_ms, 0, limit, until_ms)
forgotten = forgotten + forget_oldest(KEYS[1], KEYS[2], KEYS[3], until_ms, tonumber(ARGV[3]), limit, now - ARGV[4])
if redis.call('ZCARD', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end  -- others may have deleted receipts
return forgotten
