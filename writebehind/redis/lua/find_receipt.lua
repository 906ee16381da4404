#!lua flags=allow-oom
-- Find the receipt of a write by its idempotency key, as a commit does: one that is over is none.
--
-- KEYS  1 receipts  2 receipts_at
-- ARGV  1 the key  2 how long a receipt is kept, ms  3 '1' where replicas are waited for
-- Returns the receipt, or nil
-- include: now_ms
local key = ARGV[1]
local receipt = redis.call('HGET', KEYS[1], key)
local left_at = tonumber(redis.call('ZSCORE', KEYS[2], key) or '-inf')
if not receipt or left_at <= now_ms() - ARGV[2] then return nil end
-- WAIT is about what this connection has written.
if ARGV[3] == '1' then redis.call('HSET', KEYS[1], key, receipt) end
return receipt
