do -- before each step about a partition that is to be divided: is it by now, or just being so?
  local place = string.match(KEYS[1], '^wb:{%d+}:')
  if redis.call('EXISTS', place .. 'frozen') == 1 or redis.pcall('GET', place .. 'divided') == 'TARGET' then
    return redis.error_reply('DIVIDED ' .. place)
  end
end
