-- Put an entry with the version that it has in the place of an older one, or of none. It is to be pending from now on.
-- The keys are those of a commit.
local function supplant(keys, member, document, now, most_kept)
  local entry, clock, dead = keys[1], keys[3], keys[5]
  local version, letter = tonumber(string.sub(document, 1, 16)) or 0, redis.call('HGET', dead, member)
  if letter and string.sub(letter, 1, 16) == redis.call('GETRANGE', entry, 0, 15) then  -- of the entry, which is older
    redis.call('HDEL', dead, member)
    redis.pcall('HINCRBY', keys[7], string.match(member, '^[^/]*'), -1)
  elseif letter then  -- its document is lost, and this one knows nothing of it
    keep_lost_letter(dead, keys[7], keys[9], keys[10], member, member, letter, most_kept)
  end
  if version <= now and last_version(redis.call('GET', clock)) < version then
    redis.call('SET', clock, string.format('%016.0f', version))
  end
  redis.call('SET', entry, document)  -- without TTL, see commit
end
