#!lua flags=allow-oom
-- Note what is about to be sent to MongoDB, so that it is known again when MongoDB reports it.
--
-- KEYS  1 sent  2 traces: where flushes are traced
-- ARGV  for each entry: member, what stands before its body
-- Returns of each member what `traces` has of it, where it has any; else nothing
-- include: now_ms
local now = string.format('%.0f', now_ms())
local is_traced, noted = KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1, {}

for at = 1, #ARGV, 2 do
  local member, header = ARGV[at], ARGV[at + 1]
  local last = redis.call('HGET', KEYS[1], member)
  -- A flusher that was paused may come with an older version, which MongoDB will not take. Of a version that is sent
  -- again the first time counts.
  if not last or (tonumber(string.sub(last, 1, 16)) or 0) < tonumber(string.sub(header, 1, 16)) then
    local before = last and string.match(last, '^%S+') or ''
    redis.call('HSET', KEYS[1], member, header .. ' ' .. now .. ' ' .. before)
  end
  if is_traced then noted[#noted + 1] = redis.call('HGET', KEYS[2], member) or '' end
end
return noted
