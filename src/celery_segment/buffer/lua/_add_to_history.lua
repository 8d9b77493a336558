-- Add to what the history counts in the period of a time: names and numbers in turn. What was
-- counted is kept for a day after the period.
local PERIOD = 300000
local KEPT = 86400000
local function add_to_history(source, time, ...)
  local period, counts = math.floor(time / PERIOD), {...}
  local history = source .. ':history:' .. period
  for i = 1, #counts, 2 do
    redis.call('HINCRBY', history, counts[i], counts[i + 1])
  end
  redis.call('EXPIREAT', history, ((period + 1) * PERIOD + KEPT) / 1000)
end
