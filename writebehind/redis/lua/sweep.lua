#!lua flags=allow-oom
-- Find out whether a partition has overdue members that no flush task is on its way to, and if so issue a ticket.
-- It waits until `scheduled` has run out: taking it away from a task that only queues would starve the partition.
--
-- KEYS  1 lease  2 scheduled  3 pending
-- ARGV  1 lateness from which a member is overdue, ms  2 life of `scheduled`, ms
--       3 the longest that a member may have to wait, ms: one that is due later is overdue, see claim
--       4 life of the lease, ms
-- Returns {number pending, ticket}   the caller must enqueue a flush task with this ticket
--       {number pending, ''}       nothing to do
-- include: now_ms, now_us, issue_ticket, due_of
local lease, scheduled, pending = KEYS[1], KEYS[2], KEYS[3]

local count = redis.call('ZCARD', pending)
if count == 0 then
  return {count, ''}
end
-- After a clock that stepped back they would live for longer than anybody asked for.
for key, life in pairs({[lease] = tonumber(ARGV[4]), [scheduled] = ARGV[2] + ARGV[3]}) do
  local left = redis.call('PTTL', key)
  if left == -1 then  -- each has a life: one without was put there by hand
    redis.call('DEL', key)
  elseif left > life then
    redis.call('PEXPIRE', key, math.min(life, tonumber(ARGV[2])))
  end
end
if redis.call('EXISTS', lease, scheduled) > 0 then
  return {count, ''}
end
local now = now_ms()
local head = redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES')
local tail = redis.call('ZRANGE', pending, -1, -1, 'WITHSCORES')
if due_of(tonumber(head[2])) + tonumber(ARGV[1]) > now and tonumber(tail[2]) <= now + tonumber(ARGV[3]) then
  return {count, ''}
end
return {count, issue_ticket(scheduled, now, ARGV[2])}
