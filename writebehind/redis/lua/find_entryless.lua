#!lua flags=no-writes,allow-oom
-- Which of these members are pending although they have no entry.
--
-- KEYS  1 pending  2… entry: of each member
-- ARGV  the members
-- Returns the members
local found = {}
for i, member in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 and redis.call('ZSCORE', KEYS[1], member) then
    found[#found + 1] = member
  end
end
return found
