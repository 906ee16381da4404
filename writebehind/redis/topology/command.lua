do -- a command, after `guard.lua`: Lua unpacks at most some thousands of values
  local most, added = 4000, 0
  if #ARGV <= most then
    return redis.pcall(unpack(ARGV))
  end
  local sums = {DEL = 1, HDEL = 1, HSET = 1, SADD = 1, SREM = 1, UNLINK = 1, ZREM = 1}  -- whose answers add up
  if not sums[ARGV[1]] then
    return redis.error_reply('ERR ' .. ARGV[1] .. ' has too many arguments to be sent at once')
  end
  for from = 3, #ARGV, most do
    added = added + redis.call(ARGV[1], ARGV[2], unpack(ARGV, from, math.min(from + most - 1, #ARGV)))
  end
  return added
end
