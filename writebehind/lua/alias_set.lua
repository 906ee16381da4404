-- Let an alias lead to a document that was just written.
--
-- KEYS  1 alias  2 load
-- ARGV  1 where it leads
-- Returns 1
redis.call('SET', KEYS[1], ARGV[1])  -- without TTL, as MongoDB cannot find the document by this value yet
redis.call('DEL', KEYS[2])  -- what is being asked of MongoDB is older
return 1
