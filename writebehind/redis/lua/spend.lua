#!lua flags=allow-oom
-- Note what clients have spent, and say when each has it back: also while Redis is full, when it matters most.
--
-- KEYS  1 spent
-- ARGV  1 how many clients are kept  2 how long they are kept once they have all back, ms  3 the longest time ahead, ms
--       4… of each client: name, since how many ms it has spent this, how many ms it takes to have it back
-- Returns {ms until it has all back, '0.000' and less if it has, …}
-- include: now_ms
local spent, now, longest = KEYS[1], now_ms(), tonumber(ARGV[3])
local left = {}
for i = 4, #ARGV, 3 do
  local since = now - tonumber(ARGV[i + 1])
  local at = tonumber(redis.call('ZSCORE', spent, ARGV[i]) or since)
  -- What lies further ahead is from before a clock stepped back.
  if at < since or at > now + longest then
    at = since
  end
  at = math.min(at + tonumber(ARGV[i + 2]), now + longest)
  redis.call('ZADD', spent, string.format('%.3f', at), ARGV[i])
  left[#left + 1] = string.format('%.3f', at - now)
end
redis.call('ZREMRANGEBYSCORE', spent, '-inf', now - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYRANK', spent, 0, -1 - tonumber(ARGV[1]))
redis.call('PEXPIRE', spent, 2 * longest)
return left
