-- Issue the ticket of a flush task that is to run at `due`, ms, which the caller must enqueue. With `latest`, ms: '' where
-- the task on its way runs by then; one for less urgent writes would come too late. Without a life '' too: the caller
-- sends no task, and the ticket would keep others from sending theirs.
local function issue_ticket(scheduled, due, life, latest)
  if tonumber(life) == 0 then return '' end
  local wanted = latest and redis.call('GET', scheduled)
  if wanted and (tonumber(string.match(wanted, '^%d+') or '') or math.huge) <= latest then
    return ''
  end
  local ticket = string.format('%.0f:%.0f', due, now_us())
  redis.call('SET', scheduled, ticket, 'PX', life)
  return ticket
end
