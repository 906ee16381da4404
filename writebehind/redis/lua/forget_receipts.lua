#!lua flags=allow-oom
-- Forget receipts that are over, the oldest first.
--
-- KEYS  1 receipts  2 receipts_at  3 fates
-- ARGV  1 how long a receipt is kept, ms  2 how many to forget at most
-- Returns how many were forgotten
-- include: now_ms, forget_oldest
local until_ms = now_ms() - ARGV[1]
local forgotten = forget_oldest(KEYS[1], KEYS[2], KEYS[3], until_ms, 0, tonumber(ARGV[2]), until_ms)
if redis.call('ZCARD', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end  -- others may have deleted receipts
return forgotten
