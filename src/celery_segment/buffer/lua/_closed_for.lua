-- Return for how many milliseconds the source is closed to deliveries: 0 when it accepts
-- them, -1 when it is paused until resumed.
local function closed_for(source)
  if redis.call('EXISTS', source .. ':paused') == 1 then
    return -1
  end
  return math.max(redis.call('PTTL', source .. ':gate'), 0)
end
