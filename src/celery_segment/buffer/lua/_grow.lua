-- Adapt the limit of concurrent requests to a good answer, which took `duration` milliseconds.
-- It grows where as many requests as are allowed were under way, and the answer took no longer
-- than usual: by one for each answer up to `threshold`, then by one for each round of answers.
-- To be called before the batch leaves :inflight.
local function grow(source, duration, ceiling)
  local state = source .. ':state'
  local fields = redis.call('HMGET', state, 'limit', 'threshold', 'latency', 'fastest')
  local limit, threshold = tonumber(fields[1] or 2), tonumber(fields[2] or ceiling)
  local latency = fields[3] and fields[3] * 0.8 + duration * 0.2 or duration
  -- The fastest answer is forgotten slowly, since an endpoint may become slower for good.
  local fastest = math.min(fields[4] and fields[4] * 1.02 + 1 or duration, duration)
  redis.call('HSET', state, 'latency', string.format('%.1f', latency),
    'fastest', string.format('%.1f', fastest))
  local under_way = redis.call('ZCARD', source .. ':inflight')
    - redis.call('ZCARD', source .. ':waiting')
  if under_way >= math.floor(limit) and limit < ceiling and duration <= 2 * fastest + 50 then
    limit = math.min(limit + (limit < threshold and 1 or 1 / limit), ceiling)
    redis.call('HSET', state, 'limit', string.format('%.3f', limit))
  end
end
