-- While calls are refused, :count is this much higher: an append, which reads :count anyway,
-- needs no look-up of its own to notice.
local REFUSING = 2 ^ 40

-- Return how many messages the open batch holds, and whether calls are refused.
local function open_count(source)
  local count = tonumber(redis.call('GET', source .. ':count') or recount(source))
  return count % REFUSING, count >= REFUSING
end
