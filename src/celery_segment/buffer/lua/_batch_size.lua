-- Return how many messages a sealed batch holds, and their bytes before compression: 0 where
-- its record is gone.
local function batch_size(source, id)
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'bytes')
  return tonumber(fields[1] or 0), tonumber(fields[2] or 0)
end
