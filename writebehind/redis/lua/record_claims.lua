#!lua flags=allow-oom
-- Note which values a document claims, and take from the note the claims that it needs no more: to be released.
-- What it adds is small, and without it claims would stay for ever. Flushers call it in a full Redis too.
--
-- KEYS  1 claimed  2 pending  3 dead
-- ARGV  1 member  2 a version  3 '1' if MongoDB has that version, '0' after a write that has claimed its values
--       4… the names of those values
-- Returns {version up to which claims are to be released, '1' if MongoDB has that version, name of a value, …}
local claimed, pending, member, version, stored = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), ARGV[3]

for i = 4, #ARGV do
  redis.call('ZADD', claimed, 'GT', ARGV[2], ARGV[i])
end
if stored == '0' then
  -- A newer write may have been here first. The newest has claimed all its values: older claims are of former ones.
  local newest = redis.call('ZRANGE', claimed, -1, -1, 'WITHSCORES')[2]
  version = math.max(version, tonumber(newest or '0'))
  if redis.call('ZSCORE', pending, member) or redis.call('HEXISTS', KEYS[3], member) == 1 then
    version = version - 1
  else  -- a flusher was faster, and has not seen these claims
    stored = '1'
  end
end
local last = string.format('%.0f', version)
local names = redis.call('ZRANGE', claimed, '-inf', last, 'BYSCORE')
redis.call('ZREMRANGEBYSCORE', claimed, '-inf', last)
table.insert(names, 1, stored)
table.insert(names, 1, last)
return names
