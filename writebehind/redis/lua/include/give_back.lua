-- Give the lease of a partition back, and return when the next flush task is wanted, ms, with its ticket, which the caller must
-- enqueue: {delay, ticket}; or {} where nothing is pending, or the caller sends no task, as it has no `extra` life for a ticket.
-- Its delay is `least` at least. Members that are due later than after `longest` are due, see claim. Where any are set aside it is
-- `paused` at most, so that the end of a pause is noticed; with `is_all` all is paused, and no write asks for a sooner one.
-- Needs now_ms, issue_ticket.
local function give_back(lease, scheduled, pending, least, extra, longest, paused, is_all)
  redis.call('DEL', lease)
  local first = redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES')
  if #first == 0 or tonumber(extra) == 0 then  -- whoever writes next, or the sweep, sends one
    redis.call('DEL', scheduled)
    return {}
  end
  local now = now_ms()
  local head = redis.call('ZRANGEBYSCORE', pending, '0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local delay = #head > 0 and tonumber(head[2]) - now or math.huge
  if #head > 0 and delay > tonumber(longest) then
    delay = 0
  end
  if tonumber(first[2]) < 0 then
    delay = math.min(delay, tonumber(paused))
  end
  delay = math.max(delay, tonumber(least))
  return {delay, issue_ticket(scheduled, is_all == '1' and 0 or now + delay, delay + tonumber(extra))}
end
