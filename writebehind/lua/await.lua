#!lua flags=allow-oom
-- Note that a dead letter waits for another document to change: it has a unique value that the letter's was given.
--
-- KEYS  1 awaited
-- ARGV  1 the member that has the value  2 the member of the dead letter
-- Returns how many wait for that document
local noted = redis.call('HGET', KEYS[1], ARGV[1])
local members = noted and cjson.decode(noted) or {}
for _, member in ipairs(members) do
  if member == ARGV[2] then
    return #members
  end
end
members[#members + 1] = ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(members))
return #members
