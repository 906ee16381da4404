#!lua flags=allow-oom
-- Count documents that MongoDB has got by now, in the present second: also while Redis is full, when it matters most.
-- Of a minute and a little more it is remembered; seconds that lie ahead are from before a clock stepped back.
--
-- KEYS  1 flushed
-- ARGV  1 how many  2 how many seconds are remembered
-- Returns 1
-- include: now_ms
local flushed, most = KEYS[1], tonumber(ARGV[2])
local second = math.floor(now_ms() / 1000)

local function add()
  return redis.pcall('HINCRBY', flushed, string.format('%.0f', second), ARGV[1])
end
local counted = add()
if type(counted) == 'table' then  -- other hands have put there what is no count: all begins anew
  redis.call('DEL', flushed)
  counted = add()
end
if counted == tonumber(ARGV[1]) then  -- the first of this second
  for _, one in ipairs(redis.call('HKEYS', flushed)) do
    local at = tonumber(one)
    if not at or at <= second - most or at > second then redis.call('HDEL', flushed, one) end
  end
end
redis.call('EXPIRE', flushed, most)
return 1
