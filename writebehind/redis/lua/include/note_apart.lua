-- Note that the versions of a member that MongoDB does not have, up to that of a letter, stand apart from later ones: these
-- were written without them. Only where somebody may ask for one, see note_last. Noting it again changes nothing.
--
-- With `is_late` later ones may have come to MongoDB, so nobody knows which of those before are the letter's: all are, whatever
-- is noted of them, so this comes first.
local function note_apart(fates, member, version, is_late)
  local fate = redis.call('HGET', fates, member)
  if not fate then return end
  local none = string.rep('0', 16)
  local after = string.sub(fate, 17, 32)
  is_late = is_late or after >= version  -- what was settled had a greater number, though it came before
  for at = 33, #fate, 48 do
    local last = string.sub(fate, at + 16, at + 31)
    if last == version then return end
    if last < version and last > after then after = last end
  end
  if #fate >= 32 + 48 * 200 then fate = string.sub(fate, 1, 32) .. string.sub(fate, 81) end  -- who asks for the first?
  local noted = is_late and string.sub(fate, 1, 32) .. none .. version .. none .. string.sub(fate, 33)
    or fate .. after .. version .. none
  redis.call('HSET', fates, member, noted)
end
