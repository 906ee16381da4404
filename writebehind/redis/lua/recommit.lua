#!lua flags=allow-oom
-- Acknowledge a write once more that a failover has lost, with its version: what is newer stands. It runs in a full Redis
-- too, as the write had its room before. Running it again changes nothing.
--
-- KEYS  1 entry  2 pending  3 clock  4 scheduled  5 dead  6 load  7 dead_counts  8 deleted  9 kept  10 crowded
--       11 counts
--       and where there are receipts  12 receipts  13 receipts_at  14 fates
-- ARGV  1 member  2 its entry as it was committed
--       3 life of `scheduled`, ms; 0 where the caller sends no flush task  4 how much later the flush task on its way may run, ms
--       5 how many documents are kept of a member when no new write is taken
--       6 until when every deletion since the failover is remembered, µs by the clock of Redis
--       7 '1' where MongoDB has nothing newer, as it was seen since the right to load was given to  8 this token  9 for so long, ms
--       10… collection/key of this write, and of those that it has seen and that were lost with it, each with its receipt
-- Returns {'recommitted', ticket of the flush task that the caller must enqueue, or ''}
--         {'there', ''}       Redis has it, if only beside a dead letter
--         {'superseded', '', newer version}  there is one
--         {'unknown', ''}     there is no entry: a newer one may have been persisted and dropped. The right to load is the token's
--         {'late', ''}        the document may have been deleted since, and that forgotten
-- include: now_us, last_version, issue_ticket, keep_lost_letter, supplant, count_write, note_last
local entry, pending, scheduled = KEYS[1], KEYS[2], KEYS[4]
local member, digits = ARGV[1], string.sub(ARGV[2], 1, 16)
local version = tonumber(digits)

if KEYS[12] then  -- what other hands have put there is in the way before anything is written
  redis.call('HLEN', KEYS[12])
  redis.call('ZCARD', KEYS[13])
  redis.call('HLEN', KEYS[14])
end
local function bring_receipts()
  for at = 10, #ARGV, 2 do
    if redis.call('HSETNX', KEYS[12], ARGV[at], ARGV[at + 1]) == 1 then
      redis.call('ZADD', KEYS[13], string.sub(ARGV[at + 1], 1, 13), ARGV[at])  -- of a version those are ms
      note_last(KEYS[14], member, string.sub(ARGV[at + 1], 1, 16))
    end
  end
end

local header = redis.call('GETRANGE', entry, 0, 15)
local found = math.max(tonumber(header) or 0, tonumber(redis.call('ZSCORE', KEYS[8], member) or '0'))
if found == version or redis.call('HEXISTS', KEYS[9], digits) == 1 then
  bring_receipts()
  return {'there', ''}
end
if found > version then return {'superseded', '', found} end
local now = now_us()
if now > tonumber(ARGV[6]) then return {'late', ''} end
if header == '' and not (ARGV[7] == '1' and redis.call('GET', KEYS[6]) == ARGV[8]) then
  redis.call('SET', KEYS[6], ARGV[8], 'PX', ARGV[9])  -- each write from now on takes it away, whatever becomes of its entry
  return {'unknown', ''}
end

supplant(KEYS, member, ARGV[2], now, ARGV[5])
local due = math.floor(now / 1000)
count_write(KEYS[11], redis.call('ZADD', pending, 'LT', due, member) == 1, digits)
redis.call('DEL', KEYS[6])  -- as for a commit
bring_receipts()  -- last: no receipt stands of a write that does not
return {'recommitted', issue_ticket(scheduled, due, ARGV[3], due + tonumber(ARGV[4]))}
