-- Give a dead letter another chance.
--
-- KEYS  1 entry  2 pending  3 dead  4 dead_counts  5 scheduled  6 clock  7 load  8 deleted
-- ARGV  1 member  2 the dead letter as the caller has seen it  3 the version that was refused
--       4 '' to try that version again, which is still the entry; else what follows the version in a new entry:
--         MongoDB has a newer version than the one that was refused, so its body becomes the newest
--       5 life of `scheduled`, ms
-- Returns {'ok', version, ticket of the flush task that the caller must enqueue, or ''}
--       {'changed', '', ''}  the letter is another one by now, or gone
--       {'gone', '', ''}     the entry is not there any more: there is nothing to try
local entry, pending, dead, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local scheduled, clock, load = KEYS[5], KEYS[6], KEYS[7]
local member, version, payload = ARGV[1], ARGV[3], ARGV[4]

if redis.call('HGET', dead, member) ~= ARGV[2] then
  return {'changed', '', ''}
end
if payload == '' and redis.call('GETRANGE', entry, 0, 15) ~= version then
  return {'gone', '', ''}
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if payload ~= '' then
  version = string.format('%.0f', now)
  local last = redis.call('SET', clock, version, 'GET')
  if last and tonumber(last) >= now then
    version = string.format('%.0f', last + 1)
    redis.call('SET', clock, version)
  end
  local shown = math.max(
    tonumber(redis.call('GETRANGE', entry, 0, 15)) or 0, tonumber(redis.call('ZSCORE', KEYS[8], member) or '0')
  )
  if shown >= tonumber(version) and shown < 9007199254740991 then  -- as in commit
    version = string.format('%.0f', shown + 1)
  end
  redis.call('SET', entry, version .. payload)
  redis.call('DEL', load)
end
redis.call('HDEL', dead, member)
redis.call('HINCRBY', counts, string.match(member, '^[^/]*'), -1)
local due = math.floor(now / 1000)
redis.call('ZADD', pending, due, member)

local wanted = redis.call('GET', scheduled)
if wanted and tonumber(string.match(wanted, '^%d+')) <= due then
  return {'ok', version, ''}
end
local ticket = string.format('%.0f', due) .. ':' .. time[1] .. '.' .. time[2]
redis.call('SET', scheduled, ticket, 'PX', ARGV[5])
return {'ok', version, ticket}
