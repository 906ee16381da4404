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
-- include: now_ms, now_us, issue_ticket
local lease, scheduled, pending = KEYS[1], KEYS[2], KEYS[3]

local owner = redis.call('GET', lease)
if owner and owner ~= ARGV[1] then
  return {}
end
redis.call('DEL', lease)

local first = redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES')
if #first == 0 or tonumber(ARGV[3]) == 0 then  -- whoever writes next, or the sweep, sends one
  redis.call('DEL', scheduled)
  return {}
end
local now = now_ms()
local head = redis.call('ZRANGEBYSCORE', pending, '0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local delay = #head > 0 and tonumber(head[2]) - now or math.huge
if #head > 0 and delay > tonumber(ARGV[4]) then
  delay = 0
end
if tonumber(first[2]) < 0 then
  delay = math.min(delay, tonumber(ARGV[5]))
end
delay = math.max(delay, tonumber(ARGV[2]))
return {delay, issue_ticket(scheduled, ARGV[6] == '1' and 0 or now + delay, delay + tonumber(ARGV[3]))}
