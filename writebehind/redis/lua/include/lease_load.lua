-- Become the one reader that may load: {'load'}; or hear that another reader is loading: {'wait'}.
local function lease_load(load, token, life)
  if redis.call('SET', load, token, 'NX', 'PX', life) then
    return {'load'}
  end
  cut_life(load, life)
  return {'wait'}
end
