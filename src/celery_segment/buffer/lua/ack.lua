-- Settle a delivered batch: count it and delete it.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token
-- ARGV[3] -> status of the response or kind of failure; '' when no request was made
-- ARGV[4] -> 1 when on_delivered is called with each batch: the messages are kept until it
--            has been; else 0
-- ARGV[5] -> lease, milliseconds: for how long the callbacks are left to the holder
-- ARGV[6] -> how long the request took, milliseconds
-- ARGV[7] -> max_inflight, the ceiling of concurrent requests
--
-- Returns {1, a list of the messages' callbacks}: the holder is to call them and on_delivered
-- Returns {0, {}}: there is nothing to call
-- Returns {-1, {}}: the token is not the holder's; nothing was changed
local source, id, token, status = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local notify, lease = ARGV[4] == '1', tonumber(ARGV[5])
local duration, max_inflight = tonumber(ARGV[6]), tonumber(ARGV[7])

-- @include _now
-- @include _held
-- @include _move
-- @include _count_saved
-- @include _reset_failures
-- @include _count_attempt
-- @include _keep_callbacks
-- @include _grow
local count, bytes = held(source, id, token)
if not count then
  return {-1, {}}
end
local stats, time = source .. ':stats', now()
redis.call('DEL', source .. ':traces:' .. id)
grow(source, duration, max_inflight)
count_saved(source, id, -1)
redis.call('DEL', source .. ':meta:' .. id)
if not notify then
  redis.call('DEL', source .. ':batch:' .. id)
  redis.call('ZREM', source .. ':batches', id)
end
redis.call('ZREM', source .. ':inflight', id)
move(source, count, bytes, 'inflight', 'delivered')
redis.call('HINCRBY', stats, 'delivered_batches', 1)
redis.call('HSET', stats, 'last_delivered', time)
count_attempt(source, status)
reset_failures(source)
return keep_callbacks(source, 'delivered', id, token, count, bytes, notify, time + lease)
