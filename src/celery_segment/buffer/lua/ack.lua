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
-- ARGV[8] -> upper bounds of the buckets of latencies, milliseconds, with commas; the last has none
--
-- Returns {1, a list of the messages' callbacks}: the holder is to call them and on_delivered
-- Returns {0, {}}: there is nothing to call
-- Returns {-1, {}}: the token is not the holder's; nothing was changed
local source, id, token, status = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local notify, lease = ARGV[4] == '1', tonumber(ARGV[5])
local duration, max_inflight, bounds = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]

-- @include _now
-- @include _add
-- @include _held
-- @include _move
-- @include _count_saved
-- @include _reset_failures
-- @include _latencies
-- @include _add_to_history
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
local meta = source .. ':meta:' .. id
-- Batches of the release before have no time at which they were sealed.
local times = redis.call('HMGET', meta, 'since', 'sealed')
redis.call('DEL', meta)
if not notify then
  redis.call('DEL', source .. ':batch:' .. id)
  redis.call('ZREM', source .. ':batches', id)
end
redis.call('ZREM', source .. ':inflight', id)
move(source, count, bytes, 'inflight', 'delivered')
redis.call('HINCRBY', stats, 'delivered_batches', 1)
redis.call('HSET', stats, 'last_delivered', time)
local since = tonumber(times[1] or time)
local totals = latencies(count, since, tonumber(times[2] or since), time, bounds)
for i = 1, #totals, 2 do
  redis.call('HINCRBY', stats, totals[i], totals[i + 1])
end
add_to_history(source, time, 'delivered', count, unpack(totals))
count_attempt(source, status, time)
reset_failures(source)
return keep_callbacks(source, 'delivered', id, token, count, bytes, notify, time + lease)
