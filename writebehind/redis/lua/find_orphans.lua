#!lua flags=no-writes,allow-oom
-- Which of these dead letters have no document any more, and do not say so yet.
--
-- KEYS  1 dead
--       2… entry or kept: of each letter the entry, where that is its document; else what is kept of its member
-- ARGV  the names of the letters, in that order
-- Returns the names
local found = {}
for i, name in ipairs(ARGV) do
  local letter, place = redis.call('HGET', KEYS[1], name), KEYS[i + 1]
  if letter then
    local version, is_there = string.sub(letter, 1, 16)
    if string.find(name, '^[^/]*@') then
      is_there = redis.call('HSTRLEN', place, version) > 0
      if redis.call('HEXISTS', place, version) == 1 and not is_there then
        local readable, told = pcall(cjson.decode, string.sub(letter, 17))
        is_there = readable and type(told) == 'table' and told.reason == 'lost'  -- it says so already
      end
    else
      is_there = redis.call('GETRANGE', place, 0, 15) == version
    end
    if not is_there then found[#found + 1] = name end
  end
end
return found
