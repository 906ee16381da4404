-- The last version that a partition has issued, from the text of its clock; 0 where no clock has written that. Versions
-- end at 2^52: MongoDB compares none from there on.
local function last_version(clock)
  local last = tonumber(clock or '') or 0
  return last >= 0 and last < 4503599627370495 and last or 0
end
