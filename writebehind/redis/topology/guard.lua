do -- before each step on a server among several: is what it touches here, and not just moving elsewhere?
  local place = string.match(KEYS[1], '^wb:{(%d+)}:') or 'home'
  local here = redis.pcall('HEXISTS', 'wb:server', place)  -- a table where other hands made it something else
  if here ~= 1 and (here ~= 0 or redis.call('HEXISTS', 'wb:server', 'name') == 0) then
    return redis.error_reply('TRYAGAIN nothing is recorded here')
  elseif redis.call('EXISTS', 'wb:{' .. place .. '}:frozen') == 1 then
    return redis.error_reply('TRYAGAIN ' .. place .. ' is frozen')
  elseif here ~= 1 then
    return redis.error_reply('TRYAGAIN ' .. place .. ' is not here')
  end
end
