-- Note that the versions of a member that MongoDB does not have, up to that of a letter, stand apart from later ones: these
-- were written without them. Only where somebody may ask for one, see note_last. Noting it again changes nothing.
--
-- With `is_late` later ones may have come to MongoDB, so nobody knows which of those before are the letter's: all are.
local function note_apart(fates, member, version, is_late)
  local fate = redis.call('HGET', fates, member)
  if not fate then return end
  local after = is_late and string.rep('0', 16) or string.sub(fate, 17, 32)
  for at = 33, #fate, 48 do
    local last = string.sub(fate, at + 16, at + 31)
    if last == version then return end
    if last < version and last > after then after = last end
  end
  if after < version then redis.call('HSET', fates, member, fate .. after .. version .. string.rep('0', 16)) end
end
