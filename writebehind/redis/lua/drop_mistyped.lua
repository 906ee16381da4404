#!lua flags=allow-oom
-- Take out what other hands have put in the place of a key, if it is of another type than the key has.
--
-- KEYS  1 any key
-- ARGV  1 the type that it has, as TYPE says it
-- Returns 1 if it is taken out, 0 for nothing, or what is of this type
local found = redis.call('TYPE', KEYS[1])
found = found.ok or found
if found == 'none' or found == ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
