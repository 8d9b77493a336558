-- Return whether the endpoint is failing: since its last good response the breaker has
-- tripped, by failures or by a refused configuration.
local function is_failing(source)
  local fields = redis.call('HMGET', source .. ':state', 'trips', 'refusals')
  return fields[1] ~= false or fields[2] ~= false
end
