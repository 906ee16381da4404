#!lua flags=allow-oom
-- Claim a value for a document that was just committed: the commit stands, so its claim has to, also in a full Redis.
--
-- KEYS  1 aliasclaims
-- ARGV  1 member  2 version of the write
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
