#!lua flags=allow-oom
-- Note that deletions are about to be sent to MongoDB, so that they are known for our own when it reports them.
--
-- KEYS  1 deleting
-- ARGV  for each deletion: member, version
-- Returns 1
for at = 1, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[at + 1], ARGV[at])  -- GT: a flusher that was paused may come with an older one
end
return 1
