#!lua flags=allow-oom
-- How much a partition has that MongoDB may not have, at one moment: what goes from pending to dead meanwhile, or back,
-- is counted once.
--
-- KEYS  1 pending  2 dead
-- Returns {number pending, number of dead letters, {the member that is due first, when it is due, ms},
--         the same of the one that is due last}
return {
  redis.call('ZCARD', KEYS[1]),
  redis.call('HLEN', KEYS[2]),
  redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES'),
}
