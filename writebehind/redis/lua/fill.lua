-- Store what was loaded from MongoDB, unless a write or an invalidation came in between.
--
-- KEYS  1 entry  2 load  3 deleted  4 pending  5 hot  6 heat
-- ARGV  1 token of this reader  2 the entry  3 its TTL, ms  4 member  5 TTL of a tombstone, ms
--       6 what stood before the body of the entry when the load began: '' where there was none
--       7 1 if Redis is full: what is not hot enough to displace another entry is not stored then
-- Returns 1
--       0  the token is not ours any more, or the entry is another one or gone: what was loaded may be old
--       2  the document was deleted after the version that was loaded, which a late flusher has brought back: its
--          tombstone is restored instead
--       3  nothing came in between, but it is not stored: Redis has no memory for it, or only for what is hotter
local entry, load = KEYS[1], KEYS[2]

if redis.call('GET', load) ~= ARGV[1] then
  return 0
end
if redis.call('GETRANGE', entry, 0, 48) ~= ARGV[6] then
  redis.call('DEL', load)
  return 0
end
if redis.call('ZSCORE', KEYS[4], ARGV[4]) then  -- its entry was deleted by hand: what MongoDB has must not pass for it
  return 0
end
local loaded = tonumber(string.sub(ARGV[2], 1, 16))
local deleted = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[4]) or '0')
if loaded > 0 and loaded < deleted and deleted < 9007199254740991 then  -- 0: somebody else has put it there
  redis.call('DEL', load)
  redis.call('SET', entry, string.format('%016.0f', deleted) .. 'X', 'PX', ARGV[5])
  return 2
end
if ARGV[7] == '1' then
  local floor = tonumber(redis.call('HGET', KEYS[6], 'floor') or '') or 0
  if tonumber(redis.call('ZSCORE', KEYS[5], ARGV[4]) or '0') < floor then
    redis.call('DEL', load)
    return 3
  end
end
-- The first thing that is written: after another one, a server that is out of memory would let it pass.
local answer = redis.pcall('SET', entry, ARGV[2], 'PX', ARGV[3])
if answer.err and not string.find(answer.err, 'OOM', 1, true) then
  return answer
end
redis.call('DEL', load)
return answer.err and 3 or 1
