#!lua flags=allow-oom
-- Note that MongoDB is about to be given a document without a value, or its deletion, and then what is pending of it: so
-- that neither is taken for somebody else's when MongoDB reports it.
--
-- KEYS  1 sent
-- ARGV  1 member  2 what stands before the body of what is pending  3 the same of what makes room, of a version before it
-- Returns 1
--         0  a newer version was sent meanwhile, whose note stays
-- include: now_ms
local now = string.format('%.0f', now_ms())
local note, last = ARGV[2] .. ' ' .. now .. ' ' .. ARGV[3], redis.call('HGET', KEYS[1], ARGV[1]) or ''
if (tonumber(string.sub(last, 1, 16)) or 0) > tonumber(string.sub(ARGV[2], 1, 16)) then
  return 0
end
-- How often this version was tried goes on being counted: see postpone.
if string.sub(last, 1, 16) == string.sub(ARGV[2], 1, 16) then
  note = note .. (string.match(last, '^%S+ %S+ %S*( %d+ %d+)$') or '')
end
redis.call('HSET', KEYS[1], ARGV[1], note)
return 1
