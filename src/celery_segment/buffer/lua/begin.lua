-- Become the holder of a claimed batch, for one attempt.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the new holder's token
-- ARGV[3] lease, milliseconds
--
-- Returns
--   {1, messages, bytes, attempts, requests, age, traces}  held: counted attempts and
--                             requests before this one, milliseconds since the first,
--                             how many of its calls left a trace context
--   {0}          no batch of this id is in flight: settled, or put back
--   {-1}         another holds it and its lease lasts
--   {-2, ms}     the source is closed for so long (-1: until resumed), or another
--                batch is its probe; this one was put back
-- @include _now
-- @include _free
-- @include _move
-- @include _gate
local source, id = KEYS[1], ARGV[1]
local inflight, meta = source .. ':inflight', source .. ':meta:' .. id
local probe = source .. ':probe'
local time = now()

local function traces()
  return redis.call('HLEN', source .. ':traces:' .. id)
end

local deadline = redis.call('ZSCORE', inflight, id)
if not deadline then
  return {0}
end
local fields = redis.call('HMGET', meta,
  'token', 'count', 'bytes', 'attempts', 'requests', 'began')
if fields[1] == ARGV[2] then
  -- Asked again by the holder, whose first reply was lost.
  return {1, tonumber(fields[2]), tonumber(fields[3]),
    tonumber(fields[4] or 0), fields[5] - 1, time - fields[6], traces()}
end
if fields[1] and tonumber(deadline) > time then
  return {-1}
end
free_first()
redis.call('ZREM', source .. ':waiting', id)

local closed = closed_for()
local failing = redis.call('HMGET', source .. ':state', 'trips', 'refusals')
if closed == 0 and (failing[1] or failing[2]) then
  -- The source was failing: one batch at a time asks whether it still does.
  if not redis.call('SET', probe, id, 'NX', 'PX', ARGV[3]) and redis.call('GET', probe) ~= id then
    closed = math.max(redis.call('PTTL', probe), 1)
  end
end
if closed ~= 0 then
  redis.call('ZREM', inflight, id)
  redis.call('HDEL', meta, 'token')
  redis.call('ZADD', source .. ':ready', string.match(id, '^%d+'), id)
  move(fields[2], fields[3], 'inflight', 'ready')
  return {-2, closed}
end

local began = tonumber(fields[6] or time)
redis.call('HSET', meta, 'token', ARGV[2], 'began', began,
  'requests', tonumber(fields[5] or 0) + 1)
redis.call('ZADD', inflight, time + ARGV[3], id)
return {1, tonumber(fields[2]), tonumber(fields[3]),
  tonumber(fields[4] or 0), tonumber(fields[5] or 0), time - began, traces()}
