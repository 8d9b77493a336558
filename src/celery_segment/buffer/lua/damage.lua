-- Settle a batch that cannot be delivered, since what Redis holds of it is damaged: count it and
-- delete it.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token
-- ARGV[3] -> lease, milliseconds: for how long the callbacks are left to the holder
-- ARGV[4] -> the cause, for the callbacks
-- ARGV[5] -> 1 when on_failed is called with each batch; else 0
--
-- Returns {1, a list of the messages' callbacks}: the holder is to call them and on_failed
-- Returns {0, {}}: there is nothing to call
-- Returns {-1, {}}: the token is not the holder's; nothing was changed
local source, id, token, lease, cause = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local notify = ARGV[5] == '1'

-- @include _now
-- @include _free_first
-- @include _batch_size
-- @include _move
-- @include _release_probe
-- @include _count_saved
-- @include _count_lost
-- @include _keep_callbacks
if redis.call('HGET', source .. ':meta:' .. id, 'token') ~= token then
  return {-1, {}}
end
free_first(source)
local count, bytes = batch_size(source, id, 'inflight')
release_probe(source, id)
redis.call('ZREM', source .. ':inflight', id)
redis.call('ZREM', source .. ':batches', id)
count_saved(source, id, -1)
redis.call('DEL', source .. ':batch:' .. id, source .. ':meta:' .. id, source .. ':traces:' .. id)
move(source, count, bytes, 'inflight', 'damaged')
count_lost(source)
local reply = keep_callbacks(source, 'damaged', id, token, count, bytes, notify, now() + lease, cause)
redis.call('DEL', source .. ':callbacks:' .. id)
return reply
