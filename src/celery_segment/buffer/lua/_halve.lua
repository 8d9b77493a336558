-- Halve the limit of concurrent requests after a 429, a 5xx, a timeout or a broken connection.
-- Requests that began before the last time count as part of it.
local function halve(source, time, duration)
  local state = source .. ':state'
  local fields = redis.call('HMGET', state, 'limit', 'halved')
  if time - duration < tonumber(fields[2] or 0) then
    return
  end
  local limit = string.format('%.3f', math.max((fields[1] or 2) / 2, 1))
  redis.call('HSET', state, 'limit', limit, 'threshold', limit, 'halved', time)
end
