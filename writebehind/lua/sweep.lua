#!lua flags=allow-oom
-- Find out whether a partition has overdue members that no flush task is on its way to, and if so issue a ticket.
-- It waits until `scheduled` has run out: taking it away from a task that only queues would starve the partition.
--
-- KEYS  1 lease  2 scheduled  3 pending
-- ARGV  1 lateness from which a member is overdue, ms  2 life of `scheduled`, ms
-- Returns {number pending, ticket}   the caller must enqueue a flush task with this ticket
--       {number pending, ''}       nothing to do
local lease, scheduled, pending = KEYS[1], KEYS[2], KEYS[3]

local count = redis.call('ZCARD', pending)
if count == 0 or redis.call('EXISTS', lease, scheduled) > 0 then
  return {count, ''}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES')
if tonumber(head[2]) + tonumber(ARGV[1]) > now then
  return {count, ''}
end
local ticket = string.format('%.0f', now) .. ':' .. time[1] .. '.' .. time[2]
redis.call('SET', scheduled, ticket, 'PX', ARGV[2])
return {count, ticket}
