-- Let a right of another one end within the life, ms, that such rights have: one that has more of it left was given
-- before a clock stepped back. One that never ends was put there by hand, and is dropped.
local function cut_life(key, life)
  local left = redis.call('PTTL', key)
  if left == -1 then
    redis.call('DEL', key)
  elseif left > tonumber(life) then
    redis.call('PEXPIRE', key, life)
  end
end
