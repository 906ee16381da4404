#!lua flags=allow-oom
-- Bring receipts of a member back that a failover has lost, and whose writes stand. Running it again changes nothing.
--
-- KEYS  1 receipts  2 receipts_at  3 fates
-- ARGV  1 member  2… collection/key of each, with its receipt
-- Returns how many were not there
-- include: note_last
local brought = 0
redis.call('HLEN', KEYS[3])
for at = 2, #ARGV, 2 do
  local receipt = ARGV[at + 1]
  if redis.call('HSETNX', KEYS[1], ARGV[at], receipt) == 1 then
    redis.call('ZADD', KEYS[2], 'NX', string.sub(receipt, 1, 13), ARGV[at])  -- of a version those are ms
    note_last(KEYS[3], ARGV[1], string.sub(receipt, 1, 16))
    brought = brought + 1
  end
end
return brought
