-- Add counts of looks at what readers see to a slot of time, and the documents that were wrong to the latest.
--
-- KEYS  1 consistency  2 inconsistent
-- ARGV  1 life of both, s  2 most documents  3 how many counts  4… name and count, for each
--       … and the documents, each as it is noted
-- Returns 1
local life, counts = ARGV[1], tonumber(ARGV[3])
local last = 3 + 2 * counts

for i = 4, last, 2 do
  local answer = redis.pcall('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
  if type(answer) == 'table' then  -- other hands have made it no number: it begins anew
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
if counts > 0 then
  redis.call('EXPIRE', KEYS[1], life)
end
for i = last + 1, #ARGV do
  redis.call('LPUSH', KEYS[2], ARGV[i])
end
if last < #ARGV then
  redis.call('LTRIM', KEYS[2], 0, ARGV[2] - 1)
  redis.call('EXPIRE', KEYS[2], life)
end
return 1
