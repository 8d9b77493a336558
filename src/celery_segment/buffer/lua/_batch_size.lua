-- Return how many messages a sealed batch holds, and their bytes before compression.
local function batch_size(source, id)
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'bytes')
  return tonumber(fields[1]), tonumber(fields[2])
end
