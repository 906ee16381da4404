#!lua flags=allow-oom
-- Compare the counts of dead letters with the letters that are there.
--
-- KEYS  1 dead  2 dead_counts
-- ARGV  1 '1' to correct them
-- Returns the collections whose count is wrong
local there, wrong = {}, {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local collection = string.match(name, '^[^/@]*')  -- <collection>/<id>, or <collection>@<version>/<id>
  there[collection] = (there[collection] or 0) + 1
end
local noted = redis.call('HGETALL', KEYS[2])
for i = 1, #noted, 2 do
  if tonumber(noted[i + 1]) ~= (there[noted[i]] or 0) then
    wrong[#wrong + 1] = noted[i]
  end
  if there[noted[i]] == nil then there[noted[i]] = 0 end
end
for collection, count in pairs(there) do
  if count > 0 and redis.call('HEXISTS', KEYS[2], collection) == 0 then
    wrong[#wrong + 1] = collection
  end
  if ARGV[1] == '1' then redis.call('HSET', KEYS[2], collection, count) end
end
return wrong
