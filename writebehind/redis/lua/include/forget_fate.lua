-- Forget the fate of the member that a receipt is of, if it is the last one of that.
--
-- Of a receipt 49 bytes are fixed, and BSON follows whose first element is the member: its length, with a zero byte, stands in 57
-- and 58.
local function forget_fate(fates, receipt)
  local low, high = string.byte(receipt, 57, 58)
  local member = high and string.sub(receipt, 61, 59 + low + 256 * high) or ''
  if string.sub(redis.call('HGET', fates, member) or '', 1, 16) == string.sub(receipt, 1, 16) then
    redis.call('HDEL', fates, member)
  end
end
