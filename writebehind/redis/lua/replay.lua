#!lua flags=allow-oom
-- Give a dead letter another chance.
--
-- It takes no more room than the letter, and a Redis that is full of these is emptied by it.
--
-- A version that MongoDB refused is tried again as it is. A document that is kept beside its letter becomes the
-- newest version, over what MongoDB has; but never over a write that nobody but Redis has.
--
-- KEYS  1 entry  2 pending  3 dead  4 dead_counts  5 scheduled  6 clock  7 load  8 kept  9 crowded  10 deleted
--       11 counts  12 fates
-- ARGV  1 member  2 name of the letter: the member where its document is the entry
--       3 the letter as the caller has seen it: 16 digits of version, then JSON
--       4 '1' to leave a kept document alone of which a newer one is kept
--       5 version that MongoDB had when the letter was written: a kept document gets a newer one
--       6 life of `scheduled`, ms; 0 where the caller sends no flush task
--       7 how many documents are kept of a member when no new write is taken
-- Returns {'ok', version, ticket of the flush task that the caller must enqueue, or ''}
--       {'changed', '', ''}  the letter is another one by now, or gone
--       {'lost', '', ''}     its document is not there any more: there is nothing to try
--       {'newer', '', ''}    there is a newer write of the document, which MongoDB does not have; or a newer letter
-- include: now_us, last_version, issue_version, issue_ticket, count, note_apart
local entry, pending, dead, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local scheduled, clock, load, kept, crowded = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local member, name, at = ARGV[1], ARGV[2], string.sub(ARGV[3], 1, 16)
local is_kept = name ~= member
local there, version = redis.call('GETRANGE', entry, 0, 15), at

if redis.call('HGET', dead, name) ~= ARGV[3] then
  return {'changed', '', ''}
end
local document = is_kept and redis.call('HGET', kept, at)
if is_kept then
  if not document or document == '' then return {'lost', '', ''} end
  if redis.call('ZSCORE', pending, member) or redis.call('HEXISTS', dead, member) == 1 then
    return {'newer', '', ''}
  end
  for _, other in ipairs(ARGV[4] == '1' and redis.call('HKEYS', kept) or {}) do
    if other > at and redis.call('HSTRLEN', kept, other) > 0 then return {'newer', '', ''} end
  end
elseif there ~= at then
  return {'lost', '', ''}
end

local now = now_us()
if is_kept then note_apart(KEYS[12], member, at, true) end
local fate = is_kept and redis.call('HGET', KEYS[12], member) or ''
if is_kept then
  local deleted = tonumber(redis.call('ZSCORE', KEYS[10], member) or '0')
  version = issue_version(clock, now, math.max(tonumber(there) or 0, deleted, tonumber(ARGV[5])))
  redis.call('SET', entry, version .. string.sub(document, 17))
  redis.call('DEL', load)
  redis.call('HDEL', kept, at)
  for from = 33, #fate, 48 do  -- see note_last
    if string.sub(fate, from + 16, from + 31) == at then
      redis.call('HSET', KEYS[12], member, string.sub(fate, 1, from + 31) .. version .. string.sub(fate, from + 48))
    end
  end
  if redis.call('HLEN', kept) < tonumber(ARGV[7]) then redis.call('SREM', crowded, member) end
end
redis.call('HDEL', dead, name)
redis.pcall('HINCRBY', counts, string.match(member, '^[^/]*'), -1)
local due = math.floor(now / 1000)
redis.call('ZADD', pending, due, member)
count(KEYS[11], 'replayed', 1)
return {'ok', version, issue_ticket(scheduled, due, ARGV[6], due)}
