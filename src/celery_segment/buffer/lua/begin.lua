-- Lease a claimed batch, or one whose retry is due, to a new holder, for one attempt.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the new holder's token
-- ARGV[3] -> lease, milliseconds
-- ARGV[4] -> max_inflight, the ceiling of concurrent requests
-- ARGV[5] -> 1 where the source keeps the order of its messages, else 0
--
-- Returns {1, messages, bytes, attempts, requests, age, traces, refusals, spoken_for, alone,
--         delivered}: leased; attempts counted and requests made before this one, milliseconds
--         since the first, number of messages with a trace context; how often it was refused;
--         1 when another batch was delivered since this one failed first; 1 when no other
--         batch of the source could be tried; milliseconds since a delivery, -1 before the first
-- Returns {0}: no batch of this id is in flight; it is settled or ready again
-- Returns {-1}: another holds the batch and its lease has not expired
-- Returns {-2, milliseconds}: the source is closed to deliveries for so long (-1 until
--         resumed), or another batch is its probe; this batch is ready again
-- Returns {-3, limit}: as many requests are under way as may be; this batch is ready again
local source, id, token = KEYS[1], ARGV[1], ARGV[2]
local lease, max_inflight, ordered = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'

-- @include _now
-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _move
-- @include _put_back
-- @include _closed_for
-- @include _is_failing
-- @include _limit_of
-- @include _recount
-- @include _open_count
-- @include _untried
-- @include _open_first
local inflight, retrying = source .. ':inflight', source .. ':retrying'
local meta, probe, ready = source .. ':meta:' .. id, source .. ':probe', source .. ':ready'
local time = now()

local deadline = redis.call('ZSCORE', inflight, id)
if not deadline and not redis.call('ZSCORE', retrying, id) then
  return {0}
end
local fields = redis.call('HMGET', meta,
  'token', 'count', 'bytes', 'attempts', 'requests', 'began', 'refusals', 'failed', 'cause')
local holder, count = fields[1], tonumber(fields[2] or 0)
local bytes = tonumber(fields[2] and fields[3] or 0)
local attempts, requests = tonumber(fields[4] or 0), tonumber(fields[5] or 0)
local began = tonumber(fields[6] or time)

local function leased(before)
  local traces = redis.call('HLEN', source .. ':traces:' .. id)
  local delivered = redis.call('HGET', source .. ':stats', 'last_delivered')
  local spoken_for = fields[8] and delivered and tonumber(delivered) > tonumber(fields[8])
  local others = redis.call('ZCARD', ready) + redis.call('ZCARD', inflight)
    + redis.call('ZCARD', retrying) + open_count(source) - 1
  return {1, count, bytes, attempts, before, time - began, traces, tonumber(fields[7] or 0),
    spoken_for and 1 or 0, others == 0 and 1 or 0, delivered and time - delivered or -1}
end

if holder == token then
  -- The holder asks again: its first reply was lost.
  return leased(requests - 1)
end
if holder and tonumber(deadline) > time then
  return {-1}
end
free_first(source)
local from = deadline and inflight or retrying
local limit = limit_of(source, max_inflight)
local closed = closed_for(source)
if not deadline and closed == 0 and redis.call('ZCARD', inflight) >= limit then
  put_back(source, id, from)
  return {-3, limit}
end
if closed == 0 and is_failing(source) then
  -- One batch at a time, the probe, tests whether the endpoint still fails: one that has not
  -- failed itself, if there is one, since it may be the batch that is at fault.
  if not ordered and fields[9] and (untried(source) or open_first(source)) then
    closed = 1
  elseif not redis.call('SET', probe, id, 'NX', 'PX', lease)
    and redis.call('GET', probe) ~= id then
    closed = math.max(redis.call('PTTL', probe), 1)
  end
end
if closed ~= 0 then
  put_back(source, id, from)
  return {-2, closed}
end

redis.call('ZREM', source .. ':waiting', id)
redis.call('ZREM', retrying, id)
redis.call('HSET', meta, 'token', token, 'began', began, 'requests', requests + 1)
redis.call('ZADD', inflight, time + lease, id)
return leased(requests)
