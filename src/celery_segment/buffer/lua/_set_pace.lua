-- Note the time at which the next request may be made; nothing is kept of it once it has passed.
local function set_pace(shared, next_at, time)
  local kept = math.ceil(next_at - time) + 1000
  redis.call('SET', shared .. ':pace', string.format('%.3f', next_at), 'PX', kept)
end
