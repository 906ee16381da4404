#!lua flags=allow-oom
-- Note what was only in data that Redis has lost, where nobody knows better: whoever has looked last does.
--
-- What an operator has seen stays, unless there was more.
--
-- KEYS  1 lost_data
-- ARGV  a name and the figures for each, JSON: by Redis's clock
-- Returns the names of those that have more documents than before
local lost, more = KEYS[1], {}

local function read(figures)
  local is_json, found = pcall(cjson.decode, figures)
  local fields = is_json and type(found) == 'table' and found or {}
  return {
    at = tonumber(fields.at) or 0,
    documents = (tonumber(fields.pending) or 0) + (tonumber(fields.dead_letters) or 0),
    seen = fields.seen == true,
  }
end

for i = 1, #ARGV, 2 do
  local name, figures = ARGV[i], ARGV[i + 1]
  local new, noted = read(figures), read(redis.call('HGET', lost, name) or '')
  local has_more = new.documents > noted.documents
  if new.at > noted.at and (has_more or not noted.seen) or new.at == noted.at and new.seen then
    redis.call('HSET', lost, name, figures)
    if has_more then more[#more + 1] = name end
  end
end
return more
