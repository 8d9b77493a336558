-- Return whether the open batch is due: it holds `count` messages or more, or its first one
-- was stored `age` milliseconds before `time` or earlier. An empty one is never due.
local function open_is_due(source, time, count, age)
  local fields = redis.call('HMGET', source .. ':state', 'count', 'since')
  local stored = tonumber(fields[1] or 0)
  return stored > 0 and (stored >= count or time - fields[2] >= age)
end
