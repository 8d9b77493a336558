-- Return how many messages a sealed batch holds, and their bytes before compression: 0 where
-- its record is gone. Then the figures still count it in its `place` (ready, inflight or dead),
-- which is noted for whoever writes the record anew.
local function batch_size(source, id, place)
  local meta = source .. ':meta:' .. id
  local fields = redis.call('HMGET', meta, 'count', 'bytes')
  if not fields[1] then
    redis.call('HSETNX', meta, 'lost', place)
    return 0, 0
  end
  return tonumber(fields[1]), tonumber(fields[2])
end
