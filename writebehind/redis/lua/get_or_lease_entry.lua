#!lua flags=allow-oom
-- Read an entry or, where it is missing, become the one reader that may fill it.
--
-- KEYS  1 entry  2 load  3 deleted
-- ARGV  1 token of this reader  2 life of the token, ms  3 member
-- Returns {'entry', entry, its TTL in ms or -1}
--       {'load', the version of the document's deletion, missing where none is known}
--                  the caller holds the token, which a refresh may have had until now: load from MongoDB, then fill
--       {'wait'}   another reader is loading
-- include: cut_life, lease_load
local entry, load = KEYS[1], KEYS[2]

local value = redis.call('GET', entry)
if value then
  return {'entry', value, redis.call('PTTL', entry)}
end
-- A refresh fills only while its entry is there. It may also be lost, and readers would wait for it in vain.
if redis.call('GETRANGE', load, 0, 7) == 'refresh:' then
  redis.call('DEL', load)
end
local answer = lease_load(load, ARGV[1], ARGV[2])
if answer[1] == 'load' then
  answer[2] = redis.call('ZSCORE', KEYS[3], ARGV[3]) or nil
end
return answer
