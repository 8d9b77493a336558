-- Give a batch up: it becomes a dead letter, kept until replayed or purged.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the holder's token
-- ARGV[3] the reason, for people
-- ARGV[4] 1 when the endpoint answered, and so is not failing; else 0
--
-- Returns the number of messages, or -1 for a stale holder.
-- @include _now
-- @include _free
-- @include _held
-- @include _move
local source, id = KEYS[1], ARGV[1]
local meta, count, bytes = held()
if not meta then
  return -1
end
free_first()
local time = now()
redis.call('DEL', source .. ':probe')
redis.call('ZREM', source .. ':inflight', id)
redis.call('HDEL', meta, 'token')
redis.call('HSET', meta, 'cause', ARGV[3], 'buried', time)
redis.call('ZADD', source .. ':dead', time, id)
move(count, bytes, 'inflight', 'dead')
if ARGV[4] == '1' then
  redis.call('HDEL', source .. ':state', 'failures', 'trips')
end
return count
