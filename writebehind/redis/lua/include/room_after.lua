-- The time after which there may be room for another receipt, ms, where as many as there may be are younger than a time; else nothing.
local function room_after(receipts_at, left, most, old_ms)
  if left >= most and redis.call('ZCOUNT', receipts_at, '(' .. old_ms, '+inf') >= most then
    local young = redis.call('ZRANGEBYSCORE', receipts_at, '(' .. old_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return math.max(1, math.floor((young[2] or old_ms) - old_ms))
  end
end
