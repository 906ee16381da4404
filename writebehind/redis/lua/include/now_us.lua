-- The clock of Redis, µs: below 2^52 until the year 2112.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
