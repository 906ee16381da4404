-- Forget the oldest receipts: up to so many of those that were left up to a time, ms, and of those that are too many.
local function forget_oldest(receipts, receipts_at, until_ms, most, limit)
  local over = redis.call('ZRANGEBYSCORE', receipts_at, '-inf', until_ms, 'LIMIT', 0, limit)
  local too_many = math.min(redis.call('ZCARD', receipts_at) - most, limit)
  if too_many > #over then over = redis.call('ZRANGE', receipts_at, 0, too_many - 1) end
  for _, key in ipairs(over) do
    redis.call('HDEL', receipts, key)
    redis.call('ZREM', receipts_at, key)
  end
  return #over
end
