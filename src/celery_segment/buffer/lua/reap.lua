-- Take over the batches whose lease has expired, at the beginning of a drain. Their holders
-- become stale; the caller publishes their deliveries again.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> lease, milliseconds
-- ARGV[2] -> how many batches to take over at most
--
-- Returns {number of settled batches whose callbacks are to be taken over, a flat list: id,
--         messages, bytes of each batch}
local source, lease, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _now
-- @include _add
-- @include _batch_number
-- @include _batch_size
-- @include _free_first
local inflight, time, taken = source .. ':inflight', now(), {}
free_first(source)
redis.call('DEL', source .. ':tick')
for _, id in ipairs(redis.call('ZRANGEBYSCORE', inflight, '-inf', time, 'LIMIT', 0, limit)) do
  redis.call('HDEL', source .. ':meta:' .. id, 'token')
  redis.call('ZADD', inflight, time + lease, id)
  redis.call('ZADD', source .. ':waiting', batch_number(id), id)
  add(taken, id, batch_size(source, id))
end
redis.call('HINCRBY', source .. ':stats', 'takeovers', #taken / 3)
return {redis.call('ZCOUNT', source .. ':settled', '-inf', time), taken}
