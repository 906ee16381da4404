#!lua flags=allow-oom
-- Find receipts of writes by their idempotency keys, as a commit does: one that is over is none.
--
-- KEYS  1 receipts  2 receipts_at
-- ARGV  1 how long a receipt is kept, ms  2 '1' where replicas are waited for  3… collection/key of each
-- Returns those that there are
-- include: now_ms
local until_ms = now_ms() - ARGV[1]
local found = {}
for at = 3, #ARGV do
  local receipt = redis.call('HGET', KEYS[1], ARGV[at])
  local left_at = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[at]) or '-inf')
  if receipt and left_at > until_ms then
    -- WAIT is about what this connection has written.
    if ARGV[2] == '1' then redis.call('HSET', KEYS[1], ARGV[at], receipt) end
    found[#found + 1] = receipt
  end
end
return found
