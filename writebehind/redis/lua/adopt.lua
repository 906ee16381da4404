#!lua flags=allow-oom
-- Take over a document that stands in another partition than its own, as if it had been acknowledged here: the greater
-- version is the later write. Running it again changes nothing. It runs in a full Redis too, as what is taken over
-- leaves the other partition then.
--
-- KEYS  1 entry  2 pending  3 clock  4 scheduled  5 dead  6 load  7 dead_counts  8 deleted  9 kept  10 crowded
--       11 counts
-- ARGV  1 member  2 the entry that stands there, '' where only the mark of being pending does
--       3 life of `scheduled`, ms; 0 where the caller sends no flush task  4 how much later the flush task on its way may run, ms
--       5 how many documents are kept of a member when no new write is taken
--       6 its score there, where it is pending: it goes on having waited for as long; else ''
-- Returns {1, ticket of the flush task that the caller must enqueue, or ''}  it is pending here
--         {0, ''}  there is a later write here, or the same one, or nothing to take over
-- include: due_of, now_us, last_version, issue_ticket, keep_lost_letter, supplant, count
local entry, pending, scheduled, dead, load = KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6]
local member, document = ARGV[1], ARGV[2]
local now = now_us()
local due = math.floor(now / 1000)

if document == '' then
  -- An entry without TTL that is neither pending nor dead has lost its mark.
  if redis.call('PTTL', entry) ~= -1 or redis.call('HEXISTS', dead, member) == 1 or redis.call('ZSCORE', pending, member) then
    return {0, ''}
  end
else
  local header = redis.call('GETRANGE', entry, 0, 15)
  local version = tonumber(string.sub(document, 1, 16)) or 0  -- what is no version is older than all that is here
  if header ~= '' and version <= (tonumber(header) or 0)
    or version <= tonumber(redis.call('ZSCORE', KEYS[8], member) or '-1') then
    return {0, ''}
  end
  supplant(KEYS, member, document, now, ARGV[5])
end
local there = tonumber(ARGV[6])
local since = string.format('%.0f', there and math.min(due_of(there), due) or due)
count(KEYS[11], 'adopted', redis.call('ZADD', pending, 'LT', since, member))
redis.call('DEL', load)
return {1, issue_ticket(scheduled, due, ARGV[3], due + tonumber(ARGV[4]))}
