-- Count a write that is taken. The first of all leaves its version beside the counts: that tells this data of the partition
-- from any that a Redis had before it lost that. No step depends on either.
local function count_write(counts, is_first, version)
  local number = redis.pcall('HINCRBY', counts, is_first and 'first' or 'coalesced', 1)
  if is_first and number == 1 then redis.pcall('HSETNX', counts, 'born', version) end
end
