-- Do something with a key of a partition that is filled from another one, by whoever began to fill it last.
--
-- KEYS  1 arriving  2 any key
-- ARGV  1 the token of whoever fills it  2 the command  3… what follows the key in it
-- Returns its answer, or '' when somebody else fills it, or it is filled
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return ''
end
return redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
