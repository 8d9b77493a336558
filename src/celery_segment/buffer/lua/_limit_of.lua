-- Return how many requests of the source may be under way at the same time: between 1 and
-- `ceiling`, as the endpoint's answers have shown. It starts from 2.
local function limit_of(source, ceiling)
  local limit = tonumber(redis.call('HGET', source .. ':state', 'limit') or 2)
  return math.max(math.min(math.floor(limit), ceiling), 1)
end
