-- A drain has begun: take batches over whose lease has expired. Their holders
-- become stale, and their deliveries are to be published again.
--
-- KEYS[1] the source's prefix
-- ARGV[1] lease, milliseconds
-- ARGV[2] how many at the most
--
-- Returns {how many settled batches wait for another to call what has to be called, a
-- flat list: id, messages, bytes of each batch}.
-- @include _now
local source = KEYS[1]
local inflight, time, taken = source .. ':inflight', now(), {}
-- A first write that frees, as in _free.lua.
redis.call('DEL', source .. ':tick')
for _, id in ipairs(redis.call('ZRANGEBYSCORE', inflight, '-inf', time, 'LIMIT', 0, ARGV[2])) do
  local meta = source .. ':meta:' .. id
  local fields = redis.call('HMGET', meta, 'count', 'bytes')
  redis.call('HDEL', meta, 'token')
  redis.call('ZADD', inflight, time + ARGV[1], id)
  redis.call('ZADD', source .. ':waiting', string.match(id, '^%d+'), id)
  table.insert(taken, id)
  table.insert(taken, tonumber(fields[1]))
  table.insert(taken, tonumber(fields[2]))
end
redis.call('HINCRBY', source .. ':stats', 'takeovers', #taken / 3)
return {redis.call('ZCOUNT', source .. ':settled', '-inf', time), taken}
