-- Put a claimed batch, or one that waits for its retry, back among the ready ones.
local function put_back(source, id, from)
  redis.call('ZREM', from, id)
  redis.call('ZREM', source .. ':waiting', id)
  redis.call('HDEL', source .. ':meta:' .. id, 'token')
  redis.call('ZADD', source .. ':ready', batch_number(id), id)
  local count, bytes = batch_size(source, id, 'inflight')
  move(source, count, bytes, 'inflight', 'ready')
end
