-- A batch was delivered: count it and delete it.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the holder's token
-- ARGV[3] the answer's status, as _attempted says
-- ARGV[4] 1 when somebody is told of each batch, and its messages are kept until then; else 0
-- ARGV[5] lease, milliseconds: so long the holder is left to call what has to be called
--
-- Returns {1 when something has to be called, else 0, a list of the messages' callbacks}; {-1, {}}
-- for a stale holder: nothing was changed.
-- @include _now
-- @include _held
-- @include _move
-- @include _account
-- @include _answered
-- @include _attempted
-- @include _owe
local source, id = KEYS[1], ARGV[1]
local meta, count, bytes = held()
if not meta then
  return {-1, {}}
end
local callbacks = source .. ':callbacks:' .. id
local told, time = ARGV[4] == '1', now()
redis.call('DEL', meta, source .. ':traces:' .. id)
account(-1, id, bytes)
if not told then
  redis.call('DEL', source .. ':batch:' .. id)
end
redis.call('ZREM', source .. ':inflight', id)
move(count, bytes, 'inflight', 'delivered')
redis.call('HINCRBY', source .. ':stats', 'batches', 1)
redis.call('HSET', source .. ':stats', 'last_delivered', time)
attempted()
answered()
if told or redis.call('EXISTS', callbacks) == 1 then
  return {1, owe('delivered', count, bytes, callbacks, time + ARGV[5])}
end
return {0, {}}
