-- Lease a claimed batch to a new holder, for one attempt.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the new holder's token
-- ARGV[3] -> lease, milliseconds
--
-- Returns {1, messages, bytes, attempts, requests, age, traces}: leased; attempts counted and
--         requests made before this one, milliseconds since the first, number of messages
--         with a trace context
-- Returns {0}: no batch of this id is in flight; it is settled or ready again
-- Returns {-1}: another holds the batch and its lease has not expired
-- Returns {-2, milliseconds}: the source is closed to deliveries for so long (-1 until
--         resumed), or another batch is its probe; this batch is ready again
local source, id, token, lease = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

-- @include _now
-- @include _batch_number
-- @include _free_first
-- @include _move
-- @include _closed_for
-- @include _is_failing
local inflight, meta = source .. ':inflight', source .. ':meta:' .. id
local probe = source .. ':probe'
local time = now()

local deadline = redis.call('ZSCORE', inflight, id)
if not deadline then
  return {0}
end
local fields = redis.call('HMGET', meta,
  'token', 'count', 'bytes', 'attempts', 'requests', 'began')
local holder, count, bytes = fields[1], tonumber(fields[2]), tonumber(fields[3])
local attempts, requests = tonumber(fields[4] or 0), tonumber(fields[5] or 0)
local began = tonumber(fields[6] or time)

local function leased(before)
  local traces = redis.call('HLEN', source .. ':traces:' .. id)
  return {1, count, bytes, attempts, before, time - began, traces}
end

if holder == token then
  -- The holder asks again: its first reply was lost.
  return leased(requests - 1)
end
if holder and tonumber(deadline) > time then
  return {-1}
end
free_first(source)
redis.call('ZREM', source .. ':waiting', id)

local closed = closed_for(source)
if closed == 0 and is_failing(source) then
  -- One batch at a time, the probe, tests whether the endpoint still fails.
  if not redis.call('SET', probe, id, 'NX', 'PX', lease) and redis.call('GET', probe) ~= id then
    closed = math.max(redis.call('PTTL', probe), 1)
  end
end
if closed ~= 0 then
  redis.call('ZREM', inflight, id)
  redis.call('HDEL', meta, 'token')
  redis.call('ZADD', source .. ':ready', batch_number(id), id)
  move(source, count, bytes, 'inflight', 'ready')
  return {-2, closed}
end

redis.call('HSET', meta, 'token', token, 'began', began, 'requests', requests + 1)
redis.call('ZADD', inflight, time + lease, id)
return leased(requests)
