#!lua flags=allow-oom
-- Record what MongoDB now has. Never by member alone: only the version that was written is settled.
--
-- KEYS  1 pending  2 deleted  3 deleted_at  4 dead  5 dead_counts  6 sent  7 clock  8 counts  9 traces  10 fates
--       11… entry: of each member
-- ARGV  1 delay after which a member with a newer version is due again, ms
--       2 how many operations were sent to MongoDB for these  3 TTL of a tombstone, ms
--       then for each entry: member, version, TTL of a document, ms (0: drop it), and '1' where MongoDB has a newer
--       version, '' where it has this one
-- Returns {number settled, number left pending with a newer version}
--
-- What is settled is counted here, so once for each write whoever dies or sends it again: by the time since it was
-- acknowledged, up to so many ms.
--
-- Claims to unique values are not taken back here, as they are in the partitions of the values: `UniqueFields.settled` does so
-- after this step, by record_claims.lua, which says which are over, and release_claim.lua, which leaves an alias in their place.
-- include: now_ms, last_version, count
-- The name under which a write is counted that took so many ms: the most that such a write takes.
local function bound_of(age)
  if age <= 1000 then
    return age <= 50 and 'age:50' or age <= 100 and 'age:100' or age <= 250 and 'age:250' or age <= 500 and 'age:500'
      or 'age:1000'
  end
  return age <= 2500 and 'age:2500' or age <= 5000 and 'age:5000' or age <= 10000 and 'age:10000'
    or age <= 30000 and 'age:30000' or age <= 60000 and 'age:60000' or age <= 300000 and 'age:300000'
    or age <= 600000 and 'age:600000' or age <= 1800000 and 'age:1800000' or age <= 3600000 and 'age:3600000'
    or 'age:more'
end
local pending, deleted, deleted_at, dead, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local sent, traces, fates = KEYS[6], KEYS[9], KEYS[10]
local now = now_ms()
local last = last_version(redis.call('GET', KEYS[7]))
local is_traced = redis.call('EXISTS', traces) == 1  -- hardly ever
local has_fates = redis.call('HLEN', fates) > 0  -- where writes have idempotency keys
local settled, newer = 0, 0
local deletions, replayed, overtaken, superseded, together, ages = 0, 0, 0, 0, 0, {}

-- Forget what traces are told by that ends here; later writes have not come to MongoDB.
local function forget_contexts(member, version)
  local noted, later = redis.call('HGET', traces, member) or '', ''
  for from = 1, #noted, 64 do
    if string.sub(noted, from, from + 15) > version then later = later .. string.sub(noted, from, from + 63) end
  end
  if later == '' then
    redis.call('HDEL', traces, member)
  elseif later ~= noted then
    redis.call('HSET', traces, member, later)
  end
end

for i = 11, #KEYS do
  local at = 4 + (i - 11) * 4
  local member, version, ttl, is_superseded = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3] == '1'
  if is_superseded then superseded = superseded + 1 end
  local header = redis.call('GETRANGE', KEYS[i], 0, 16)
  if is_traced and not pcall(forget_contexts, member, version) then
    redis.call('DEL', traces)  -- other hands have put something of another type there
    is_traced = false
  end
  local fate = has_fates and redis.call('HGET', fates, member)
  -- See note_last. Where MongoDB has another one, it may know nothing of this one.
  if fate and not is_superseded and string.sub(fate, 17, 32) < version then
    redis.call('HSET', fates, member, string.sub(fate, 1, 16) .. version .. string.sub(fate, 33))
  end
  if string.sub(header, 1, 16) == version then
    local was_pending = redis.call('ZREM', pending, member) == 1
    if not was_pending then
      local letter = redis.call('HGET', dead, member)
      if letter and string.sub(letter, 1, 16) == version then  -- another flusher had given it up
        redis.call('HDEL', dead, member)
        redis.pcall('HINCRBY', counts, string.match(member, '^[^/]*'), -1)
        replayed = replayed + 1
        was_pending = true
      end
    end
    if was_pending then
      local age = math.max(now - math.floor(version / 1000), 0)
      local bound = bound_of(age)
      ages[bound] = (ages[bound] or 0) + 1
      together = together + age
      if string.sub(header, 17) == 'X' then deletions = deletions + 1 end
    end
    redis.call('HDEL', sent, member)
    if string.sub(header, 17) == 'X' then
      redis.call('PEXPIRE', KEYS[i], ARGV[3])
      redis.call('ZADD', deleted, version, member)
      redis.call('ZADD', deleted_at, now, member)
    else
      -- Above the clock it is one more than what was there. Once its entry has expired, the next write must not be given
      -- the same number, as one more than the deletion before it. That is over: nothing older comes in behind this one.
      if tonumber(version) > last and redis.call('ZREM', deleted, member) == 1 then
        redis.call('ZREM', deleted_at, member)
      end
      if ttl == '0' then
        redis.call('DEL', KEYS[i])
      else
        redis.call('PEXPIRE', KEYS[i], ttl)
      end
    end
    settled = settled + 1
  else
    if header ~= '' then
      -- Due only after another delay, so that a hot document goes on being coalesced. XX: it may be settled by now.
      redis.call('ZADD', pending, 'XX', now + tonumber(ARGV[1]), member)
      newer = newer + 1
      if not is_superseded then overtaken = overtaken + 1 end
    end
    if not redis.call('ZSCORE', pending, member) then  -- another flusher was faster, and forgot only what it had noted
      redis.call('HDEL', sent, member)
    end
  end
end
for bound, number in pairs(ages) do count(KEYS[8], bound, number) end
count(KEYS[8], 'age_ms', together)
count(KEYS[8], 'operations', tonumber(ARGV[2]))
count(KEYS[8], 'deleted', deletions)
count(KEYS[8], 'replayed', replayed)
count(KEYS[8], 'overtaken', overtaken)
count(KEYS[8], 'superseded', superseded)
return {settled, newer}
