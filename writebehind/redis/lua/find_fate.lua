#!lua flags=no-writes,allow-oom
-- What has become of a version of a member, at one moment.
--
-- KEYS  1 pending  2 dead  3 fates  4 kept  5 entry
-- ARGV  1 member  2 version
-- Returns {'settled', ''}      MongoDB has it, or a later one that was written over it; or it had it
--         {'dead', letter}     it is in a dead letter, of that version or a later one
--         {'discarded', ''}    it was in one
--         {'pending', ''}      it waits for MongoDB, or a later one does
--         {'gone', ''}         nothing of it waits, and nobody has noted that MongoDB has it
local member, version, fate = ARGV[1], ARGV[2], redis.call('HGET', KEYS[3], ARGV[1]) or ''
local collection, id = string.match(member, '^([^/]*)(/.*)$')

local function kept_letter(at)
  return redis.call('HGET', KEYS[2], collection .. '@' .. at .. id)
end

local noted = {}
for at = 33, #fate, 48 do
  noted[string.sub(fate, at + 16, at + 31)] = true
end
for _, last in ipairs(redis.call('HKEYS', KEYS[4])) do  -- of one that is not noted nobody knows after which version it begins
  local letter = version <= last and not noted[last] and kept_letter(last)
  if letter then return {'dead', letter} end
end
for at = 33, #fate, 48 do  -- in the order in which they came to be, and none is replayed as a version of one before
  local last, again = string.sub(fate, at + 16, at + 31), string.sub(fate, at + 32, at + 47)
  if string.sub(fate, at, at + 15) < version and version <= last then
    if again == string.rep('0', 16) then
      local letter = kept_letter(last)
      return letter and {'dead', letter} or {'discarded', ''}
    end
    version = again
  end
end
local letter, is_pending = redis.call('HGET', KEYS[2], member), redis.call('ZSCORE', KEYS[1], member)
local settled, standing = string.sub(fate, 17, 32), letter
if is_pending then standing = redis.call('GETRANGE', KEYS[5], 0, 15) end
-- What came after it may have a smaller number, where that was shown of the document and came from elsewhere.
local is_sure = not standing or string.sub(standing, 1, 16) > settled
if is_sure and version <= settled then return {'settled', ''} end
if letter then return {'dead', letter} end
return {is_pending and 'pending' or 'gone', ''}
