-- The endpoint works: no failure is counted any more, and no probe waited for.
local function answered()
  redis.call('DEL', KEYS[1] .. ':probe')
  redis.call('HDEL', KEYS[1] .. ':state', 'failures', 'trips', 'refusals')
end
