-- Add to a count of the partition. No step depends on it: where other hands have put something else in its place, the
-- step goes on without.
local function count(counts, name, number)
  if number > 0 then redis.pcall('HINCRBY', counts, name, number) end
end
