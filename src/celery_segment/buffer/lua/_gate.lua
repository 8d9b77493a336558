-- How long the source is closed to deliveries, in milliseconds: 0 open, -1 until resumed.
local function closed_for()
  if redis.call('EXISTS', KEYS[1] .. ':paused') == 1 then
    return -1
  end
  return math.max(redis.call('PTTL', KEYS[1] .. ':gate'), 0)
end
