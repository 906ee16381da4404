#!lua flags=allow-oom
-- Let go of the partition, unless members are waiting: then say when the next flush task is wanted.
-- No wake-up is lost between "nothing was due" and "I let go", because both happen here.
--
-- KEYS  1 lease  2 scheduled  3 pending
-- ARGV  1 token of this flusher  2 least delay until the next flush, ms (backoff)  3 extra life of `scheduled`, ms;
--         0 where the caller sends no flush task
--       4 the longest that a member may have to wait, ms: one that is due later is due, see claim
--       5 how long until the next flush task where members are set aside, ms, so that the end of a pause is noticed
--       6 '1' while all is paused: then no write asks for a sooner one
-- Returns {}               nothing is pending, or another flusher owns the partition, or the caller sends no task
--       {delay, ticket}  the caller must enqueue a flush task with this ticket, to run after the delay in ms
-- include: now_ms, now_us, issue_ticket, give_back
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return {}
end
return give_back(KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
