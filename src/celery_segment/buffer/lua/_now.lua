-- The server's clock in milliseconds: the one clock that all processes share.
local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
