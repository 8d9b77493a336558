-- A batch was delivered: count it and delete it.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the holder's token
--
-- Returns the number of messages, or -1 for a stale holder: nothing was changed.
-- @include _held
-- @include _move
local source, id = KEYS[1], ARGV[1]
local meta, count, bytes = held()
if not meta then
  return -1
end
redis.call('DEL', source .. ':batch:' .. id, meta, source .. ':probe')
redis.call('ZREM', source .. ':inflight', id)
move(count, bytes, 'inflight', 'delivered')
redis.call('HINCRBY', source .. ':stats', 'batches', 1)
redis.call('HDEL', source .. ':state', 'failures', 'trips')
return count
