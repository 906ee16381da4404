-- Where there are more receipts than `most`, forget the oldest: up to so many of those that were left up to a time, ms; or of those
-- that are too many, if they were left up to a later time: the others may be asked for by who repeats a request. The fate of a
-- member goes with its last receipt.
-- Returns how many, how many of them before their time, and how many are left.
local function forget_oldest(receipts, receipts_at, fates, until_ms, most, limit, old_ms)
  local there = redis.call('ZCARD', receipts_at)
  if there <= most then return 0, 0, there end
  local over = redis.call('ZRANGEBYSCORE', receipts_at, '-inf', until_ms, 'LIMIT', 0, limit)
  local ended, too_many = #over, math.min(there - most, limit)
  if too_many > ended then over = redis.call('ZRANGEBYSCORE', receipts_at, '-inf', old_ms, 'LIMIT', 0, too_many) end
  for _, key in ipairs(over) do
    -- 49 bytes, and BSON whose first element is the member: its length, with a zero byte, stands in 57 and 58.
    local receipt = redis.call('HGET', receipts, key) or ''
    local low, high = string.byte(receipt, 57, 58)
    local member = high and string.sub(receipt, 61, 59 + low + 256 * high) or ''
    if string.sub(redis.call('HGET', fates, member) or '', 1, 16) == string.sub(receipt, 1, 16) then
      redis.call('HDEL', fates, member)
    end
    redis.call('HDEL', receipts, key)
    redis.call('ZREM', receipts_at, key)
  end
  return #over, #over - ended, there - #over
end
