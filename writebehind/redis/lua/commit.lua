-- Acknowledge one write: the only step on the write path, one round trip.
--
-- KEYS  1 entry  2 pending  3 clock  4 scheduled  5 dead  6 load  7 dead_counts  8 deleted  9 kept
--       10 crowded  11 counts  12 traces: of a write that is traced, or has an idempotency key
--       and of a write that has one  13 receipts  14 receipts_at  15 fates
-- ARGV  1 member
--       2 what follows the version in the entry: a kind letter, then for a document its ETag and its BSON body
--       3 condition: '' none, '*' the document must not exist, else the ETag that it must have
--       4 cap: how many members may be pending in this partition
--       5 delay until this write may be flushed, ms
--       6 life of `scheduled`, ms; 0 where the caller sends no flush task
--       7 how much later than this write is due the flush task on its way may run, ms
--       8 how many documents are kept of a member when no new write is taken
--       and of a write that is traced  9 its context, 48 digits  10 life of `traces`, ms  11 how many contexts are kept
--       and of a write that has an idempotency key, whose context may be ''  12 collection/key  13 digest of the request, 32 digits
--       14 the rest of its answer  15 how long its receipt is kept, ms  16 how many receipts are kept in this partition,
--       and 17 how many at all: all are for 18 so long, ms  19 '1' where replicas are waited for
-- Returns {'ok', version, previous kind or '', ticket of the flush task that the caller must enqueue, or ''}
--       {'failed', '', previous kind, ''}   the condition does not hold
--       {'unknown', '', '', ''}             there is no entry to hold the condition against: load it first
--       {'full', '', previous kind, ''}     the partition is full and this member is not pending yet
--       {'repeated', version, receipt, ''}  the same request was committed before, with this receipt
--       {'another', '', '', ''}             another request with the same idempotency key was
--       {'busy', ms, '', ''}                too many receipts are too new to be forgotten: in so long one is not
-- include: now_us, last_version, issue_version, issue_ticket, keep_lost_letter, count, count_write, forget_fate, forget_oldest, room_after, note_last
local entry, pending, clock, scheduled, dead, load = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local member, condition = ARGV[1], ARGV[3]
local key, receipts, receipts_at, fates = ARGV[12], KEYS[13], KEYS[14], KEYS[15]

local now, fate
if key then  -- before anything else: what is there was answered, whatever has become of the document since
  now = now_us()
  local until_ms = math.floor(now / 1000) - ARGV[15]  -- receipts of up to then are over
  local receipt = redis.call('HGET', receipts, key)
  if receipt and tonumber(redis.call('ZSCORE', receipts_at, key) or '-inf') > until_ms then
    local is_of_several = string.sub(receipt, 1, 16) == string.rep('0', 16)  -- see note_request
    if is_of_several or string.sub(receipt, 18, 49) ~= ARGV[13] then return {'another', '', '', ''} end
    -- WAIT is about what this connection has written.
    if ARGV[19] == '1' then redis.call('HSET', receipts, key, receipt) end
    return {'repeated', string.sub(receipt, 1, 16), receipt, ''}
  end
  -- More than one, so that they become fewer, and room for one. It fails, before anything is written, on what other hands put there.
  local old_ms = math.floor(now / 1000) - ARGV[18]
  local _, early, left = forget_oldest(receipts, receipts_at, fates, until_ms, ARGV[16] - 1, 4, old_ms)
  count(KEYS[11], 'evicted_receipts', early)
  local wait_ms = room_after(receipts_at, left, tonumber(ARGV[17]), old_ms)
  if wait_ms then return {'busy', wait_ms, '', ''} end
  if receipt then forget_fate(fates, receipt) end  -- it is over, and replaced
  fate = redis.call('HGET', fates, member)
end

-- An entry is 16 digits of version, one kind letter, and for a document 32 digits of ETag and the body.
local header = redis.call('GETRANGE', entry, 0, 48)
local previous = string.sub(header, 17, 17)

if condition ~= '' then
  if previous == '' then
    return {'unknown', '', '', ''}
  elseif condition == '*' then
    if previous == 'D' then return {'failed', '', previous, ''} end
  elseif previous ~= 'D' or string.sub(header, 18, 49) ~= condition then
    return {'failed', '', previous, ''}
  end
end

now = now or now_us()
local due = math.floor(now / 1000) + tonumber(ARGV[5])
local deleted = tonumber(redis.call('ZSCORE', KEYS[8], member) or '0')
local version = issue_version(clock, now, math.max(tonumber(string.sub(header, 1, 16)) or 0, deleted))
-- LT: the first write decides when a hot document is flushed, and a more urgent one brings it forward.
local is_first = redis.call('ZADD', pending, 'LT', due, member) == 1
if is_first then
  if redis.call('ZCARD', pending) > tonumber(ARGV[4]) then
    redis.call('ZREM', pending, member)
    return {'full', '', previous, ''}
  end
  local letter = redis.pcall('HGET', dead, member)
  if type(letter) == 'table' then  -- an error: other hands have put something else there, and this write is refused
    redis.call('ZREM', pending, member)
    return letter
  end
  if letter then  -- a new version has a new chance; what is pending is not dead
    if string.sub(letter, 1, 16) == string.sub(header, 1, 16) then  -- of the entry, which this write is made from
      redis.call('HDEL', dead, member)
      redis.pcall('HINCRBY', KEYS[7], string.match(member, '^[^/]*'), -1)
    else  -- its document is lost, and this write knows nothing of it
      local is_kept, failure = pcall(function()
        keep_lost_letter(dead, KEYS[7], KEYS[9], KEYS[10], member, member, letter, ARGV[8])
      end)
      if not is_kept then
        redis.call('ZREM', pending, member)
        return failure
      end
    end
  end
end

redis.call('SET', entry, version .. ARGV[2])  -- without TTL: pending data never expires and is never evicted
redis.call('DEL', load)  -- whatever is being loaded, or read anew, is older than this write
count_write(KEYS[11], is_first, version)
if key then
  redis.call('HSET', receipts, key, version .. (previous == '' and '-' or previous) .. ARGV[13] .. ARGV[14])
  redis.call('ZADD', receipts_at, math.floor(now / 1000), key)
  note_last(fates, member, version, fate)
end
if ARGV[9] and ARGV[9] ~= '' then
  pcall(function()  -- whatever is in its way, the write stands
    local before = not is_first and redis.call('HGET', KEYS[12], member) or ''
    redis.call('HSET', KEYS[12], member, string.sub(before .. version .. ARGV[9], -64 * ARGV[11]))
    -- It lives for so long from its first context on, and not from its last: so nothing is left behind in it for ever.
    if redis.call('PTTL', KEYS[12]) == -1 then redis.call('PEXPIRE', KEYS[12], ARGV[10]) end
  end)
end
return {'ok', version, previous, issue_ticket(scheduled, due, ARGV[6], due + tonumber(ARGV[7]))}
