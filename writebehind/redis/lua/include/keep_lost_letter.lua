-- Put a dead letter whose document is lost under a name with its version, so that no write takes its place, and take it
-- out under the name that it had. What can fail, as it holds something of another type, comes first.
local function keep_lost_letter(dead, counts, kept, crowded, member, name, letter, most)
  local collection, id = string.match(member, '^([^/]*)(/.*)$')
  local version = string.sub(letter, 1, 16)
  redis.call('HSETNX', kept, version, '')  -- by which the letter is found
  if redis.call('HLEN', kept) >= tonumber(most) then redis.call('SADD', crowded, member) end
  redis.call('HDEL', dead, name)
  if redis.call('HSET', dead, collection .. '@' .. version .. id, letter) == 0 then  -- there was one of that name
    redis.pcall('HINCRBY', counts, collection, -1)
  end
end
