-- Let versions go on so far beyond the clock of Redis, and so far beyond the last one that is known, and note the lapse:
-- whatever was issued in between, by a former primary, is lost here.
local function leap_versions(clock, lapses, beyond_clock, beyond_last, most_lapses)
  local known = redis.pcall('GET', clock)  -- pcall: what other hands have put there is in the way of nothing
  local last = last_version(type(known) == 'string' and known)
  local now = now_us()
  local version = math.max(now + beyond_clock, last + beyond_last)
  if version < 4503599627370495 then  -- 2^52 - 1: the last version
    redis.call('SET', clock, string.format('%016.0f', version))
    redis.pcall('LPUSH', lapses, string.format('%.0f %.0f %.0f', last, version, now))
    redis.pcall('LTRIM', lapses, 0, most_lapses - 1)
  end
end
