#!lua flags=no-writes,allow-oom
-- How much a partition has that MongoDB may not have, at one moment: what goes from pending to dead meanwhile, or back,
-- is counted once; and who sees to it.
--
-- KEYS  1 pending  2 dead  3 lease  4 scheduled
-- Returns {number pending, number of dead letters, {the member that is due first, when it is due, ms},
--         the same of the one that is due last,
--         time left of the lease, ms; below 0 where nobody has one,
--         {ticket, or nothing where none is on its way, time left of it, ms},
--         {the member that is due first of those that are set aside, when it is due, ms}}
-- include: due_of
local ticket = redis.pcall('GET', KEYS[4])  -- other hands may have put there what is no string
local first_aside = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(0', 'WITHSCORES', 'LIMIT', 0, 1)
if #first_aside > 0 then first_aside[2] = string.format('%.0f', due_of(tonumber(first_aside[2]))) end
return {
  redis.call('ZCARD', KEYS[1]),
  redis.call('HLEN', KEYS[2]),
  redis.call('ZRANGEBYSCORE', KEYS[1], '0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1),
  redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '0', 'WITHSCORES', 'LIMIT', 0, 1),
  redis.call('PTTL', KEYS[3]),
  {type(ticket) == 'string' and ticket, redis.call('PTTL', KEYS[4])},
  first_aside,
}
