-- Store what was loaded from MongoDB, unless a write or an invalidation came in between.
--
-- KEYS  1 entry  2 load  3 deleted  4 pending  5 hot  6 heat
-- ARGV  1 token of this reader  2 the entry  3 its TTL, ms  4 member  5 TTL of a tombstone, ms
--       6 what stood before the body of the entry when the load began: '' where there was none
--       7 1 if Redis is full: what is not hot enough to displace another entry is not stored then
--       8 the version of the document's deletion that was known when the load began, 0: none. It may be forgotten since
-- Returns 1
--       0  the entry is another one or gone, or it is pending: what was loaded may be old
--       2  the document was deleted after the version that was loaded, which a late flusher has brought back: its
--          tombstone is restored instead
--       3  nothing came in between, but it is not stored: Redis has no memory for it, or only for what is hotter
--       4  the token is gone: it ran out, Redis has evicted it, or something came in between and is evicted. Nothing is
--          stored. As nothing was pending when the load began, MongoDB had all that was acknowledged by then: this
--          reader may answer what was loaded, and nobody who began to read later
--       5  the same, and 2: the document was deleted
local entry, load = KEYS[1], KEYS[2]

local is_ours = redis.call('GET', load) == ARGV[1]
if redis.call('GETRANGE', entry, 0, 48) ~= ARGV[6] then
  if is_ours then
    redis.call('DEL', load)
  end
  return 0
end
if redis.call('ZSCORE', KEYS[4], ARGV[4]) then  -- its entry was deleted by hand: what MongoDB has must not pass for it
  return 0
end
local loaded = tonumber(string.sub(ARGV[2], 1, 16))
local deleted = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[4]) or ARGV[8])
if loaded > 0 and loaded < deleted and deleted < 9007199254740991 then  -- 0: somebody else has put it there
  if not is_ours then
    return 5
  end
  redis.call('DEL', load)
  redis.call('SET', entry, string.format('%016.0f', deleted) .. 'X', 'PX', ARGV[5])
  return 2
end
if not is_ours then
  return 4
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
