#!lua flags=allow-oom
-- Note that MongoDB is about to be given a deletion of a document and then what is pending of it: so that neither is
-- taken for somebody else's when MongoDB reports it.
--
-- KEYS  1 sent
-- ARGV  1 member  2 what stands before the body of what is pending  3 the deletion, of a version before it
-- Returns 1
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. now .. ' ' .. ARGV[3])
return 1
