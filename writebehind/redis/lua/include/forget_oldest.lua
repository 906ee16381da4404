-- Where there are more receipts than `most`, forget the oldest: up to so many of those that were left up to a time, ms; or of those
-- that are too many, if they were left up to a later time: the others may be asked for by who repeats a request. The fate of a
-- member goes with its last receipt.
-- Returns how many, how many of them before their time, and how many are left. Needs forget_fate.
local function forget_oldest(receipts, receipts_at, fates, until_ms, most, limit, old_ms)
  local there = redis.call('ZCARD', receipts_at)
  if there <= most then return 0, 0, there end
  local over = redis.call('ZRANGEBYSCORE', receipts_at, '-inf', until_ms, 'LIMIT', 0, limit)
  local ended, too_many = #over, math.min(there - most, limit)
  if too_many > ended then over = redis.call('ZRANGEBYSCORE', receipts_at, '-inf', old_ms, 'LIMIT', 0, too_many) end
  for _, key in ipairs(over) do
    forget_fate(fates, redis.call('HGET', receipts, key) or '')
    redis.call('HDEL', receipts, key)
    redis.call('ZREM', receipts_at, key)
  end
  return #over, #over - ended, there - #over
end
