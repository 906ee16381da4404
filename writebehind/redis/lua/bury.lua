#!lua flags=allow-oom
-- Move a pending member to the dead letters.
--
-- Two kinds. Where MongoDB refuses a write, readers go on seeing its entry, which is the only place of its document,
-- and the letter has the member's name: the next write takes its place. Where MongoDB has what readers are to see, or
-- the entry is gone, nobody else has what was acknowledged: the letter has a name with its version, the entry is kept
-- beside it, and no write touches either.
--
-- KEYS  1 entry  2 pending  3 dead  4 dead_counts  5 load  6 sent  7 kept  8 crowded  9 counts  10 traces  11 fates
--       12 clock
-- ARGV  1 member  2 version in the entry ('' when it is gone)
--       3 the dead letter: 16 digits of version, then JSON; of an entry that is gone the last version of the partition counts
--       4 '1' to drop the entry, because MongoDB has what stands
--       5 how many documents are kept of a member when no new write is taken
-- Returns 1
--       0  there is another version, which stays as it is
--       2  it is not pending any more: another flusher has settled it, and it is dropped all the same where that was
--          asked for; or it is a dead letter already, whose body is nowhere else, and stays
-- include: count, note_apart, last_version
local entry, pending, dead, counts, load, sent = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local kept, crowded = KEYS[7], KEYS[8]
local member, version, letter = ARGV[1], ARGV[2], ARGV[3]
if version == '' then  -- not before any write that was lost with it, and not after any later one, whatever the caller's clock says
  local last = last_version(redis.call('GET', KEYS[12]))
  if last > 0 then letter = string.format('%016.0f', last) .. string.sub(letter, 17) end
end
local collection, id = string.match(member, '^([^/]*)(/.*)$')

if redis.call('GETRANGE', entry, 0, 15) ~= version then
  return 0
end
local result = 2
if redis.call('ZSCORE', pending, member) then
  redis.call('HDEL', sent, member)
  redis.pcall('HDEL', KEYS[10], member)
  local name = member
  if ARGV[4] == '1' or version == '' then
    local at = string.sub(letter, 1, 16)
    name = collection .. '@' .. at .. id
    note_apart(KEYS[11], member, at)
    -- A version was acknowledged with one document only: what is kept of it already is that one.
    redis.call('HSETNX', kept, at, redis.call('GET', entry) or '')
    if redis.call('HLEN', kept) >= tonumber(ARGV[5]) then redis.call('SADD', crowded, member) end
  end
  if redis.call('HSET', dead, name, letter) == 1 then
    redis.pcall('HINCRBY', counts, collection, 1)
  end
  redis.call('ZREM', pending, member)  -- the last of what can fail, as it holds something of another type
  result = 1
  count(KEYS[9], 'buried', 1)
  -- Names of collections may come from clients: only so many are told apart.
  local named = 'letters:' .. collection .. ':' .. (string.match(letter, '"reason":"(%l+)"') or 'unknown')
  local known = redis.pcall('HLEN', KEYS[9])
  if known == tonumber(known) and known > 200 and redis.call('HEXISTS', KEYS[9], named) == 0 then
    named = string.gsub(named, ':.*:', ':(other):')
  end
  count(KEYS[9], named, 1)
end
-- What has no TTL and is not ours to bury is refused already: its document is nowhere else.
if ARGV[4] == '1' and (result == 1 or redis.call('PTTL', entry) ~= -1) then
  redis.call('DEL', entry, load)  -- the token too: a fill on its way may carry an older value
end
return result
