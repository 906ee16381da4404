-- Let a right of another one end within the life, ms, that such rights have: one that has more of it left was given
-- before a clock stepped back.
local function cut_life(key, life)
  if redis.call('PTTL', key) > tonumber(life) then
    redis.call('PEXPIRE', key, life)
  end
end
