-- Store where an alias leads, or what a query has found, as MongoDB has it; unless a claim or an invalidation came in
-- between.
--
-- KEYS  1 alias or query  2 aliasload or queryload
-- ARGV  1 token of this reader  2 the member that an alias leads to, '' to no document; or the result  3 its TTL, ms
-- Returns 1, or 0 when the token is not ours any more
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
-- The first thing that is written: after another one, a server that is out of memory would let it pass.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
