#!lua flags=allow-oom
-- Make room: drop entries of documents that are not hot, which Redis could evict as well.
--
-- KEYS  1 hot  2 heat  3… entry: of each member
-- ARGV  1… the members
-- Returns how many were dropped
local floor = tonumber(redis.call('HGET', KEYS[2], 'floor') or '0')
local cold = {}
for i, member in ipairs(ARGV) do
  local entry = KEYS[i + 2]
  if tonumber(redis.call('ZSCORE', KEYS[1], member) or '0') < floor and redis.call('PTTL', entry) > 0 then
    cold[#cold + 1] = entry
  end
end
if #cold == 0 then
  return 0
end
return redis.call('UNLINK', unpack(cold))
