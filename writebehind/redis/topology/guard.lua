do -- before each step on a server among several: is what it touches here, and not just moving elsewhere?
  local place = string.match(KEYS[1], '^wb:{(%d+)}:') or 'home'
  local here = redis.pcall('HEXISTS', 'wb:server', place)  -- a table where other hands made it something else
  local stays = here == 1 or (here == 0 and redis.call('EXISTS', 'wb:server') == 0)
  if not stays or redis.call('EXISTS', 'wb:{' .. place .. '}:frozen') == 1 then
    return redis.error_reply('TRYAGAIN ' .. place .. ' is not here')
  end
end
