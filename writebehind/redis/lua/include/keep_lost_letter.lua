-- Put a dead letter whose document is lost under a name with its version, so that no write takes its place. The letter
-- under its member's name was taken out before.
local function keep_lost_letter(dead, counts, kept, crowded, member, letter, most)
  local collection, id = string.match(member, '^([^/]*)(/.*)$')
  local version = string.sub(letter, 1, 16)
  redis.call('HSETNX', kept, version, '')  -- by which the letter is found
  if redis.call('HLEN', kept) >= tonumber(most) then redis.call('SADD', crowded, member) end
  if redis.call('HSET', dead, collection .. '@' .. version .. id, letter) == 0 then  -- there was one of that name
    redis.call('HINCRBY', counts, collection, -1)
  end
end
