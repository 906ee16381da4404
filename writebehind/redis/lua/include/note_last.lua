-- Note that a version of a member has a receipt. A fate is 16 digits each of the last such version; of the last that MongoDB was
-- said to have; and for each letter that stands apart of the version after which it begins, its own, and the one as which it was
-- replayed, or zeros. Whoever has just read it gives it, or false.
local function note_last(fates, member, version, fate)
  if fate == nil then fate = redis.call('HGET', fates, member) end
  fate = fate or string.rep('0', 32)
  if string.sub(fate, 1, 16) < version then
    redis.call('HSET', fates, member, version .. string.sub(fate, 17))
  end
end
