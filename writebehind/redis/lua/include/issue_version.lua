-- Issue the version of a write, 16 digits: above all that the partition's clock has issued, also after the clock of Redis
-- has stepped back, or beyond 2^52, where versions end and MongoDB compares none; and above what is shown of the document.
-- That may have come from elsewhere: another Redis, a clock that was ahead, other hands. It is older all the same. The
-- partition's clock does not follow it, so that one document's number does not become that of the others.
local function issue_version(clock, now, shown)
  local version = string.format('%016.0f', now)
  local last = last_version(redis.call('SET', clock, version, 'GET'))
  if last >= now or now >= 4503599627370496 then
    version = string.format('%016.0f', last + 1)
    redis.call('SET', clock, version)
  end
  if shown >= tonumber(version) and shown < 9007199254740991 then  -- 2^53 - 1: the last that Lua tells apart
    version = string.format('%016.0f', shown + 1)
  end
  return version
end
