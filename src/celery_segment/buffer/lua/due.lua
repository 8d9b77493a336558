-- A worker's tick: is there anything to drain, to call, or to pack? One worker is told so, and no other
-- until that drain has begun or flush_interval has passed.
--
-- KEYS[1] the source's prefix
-- ARGV[1] the tick's period, milliseconds
-- ARGV[2] max_inflight
-- ARGV[3] flush_at
-- ARGV[4] flush_interval, milliseconds
-- ARGV[5] from so many ready batches on there is a backlog, which is packed
-- ARGV[6] … but for so many of the youngest
--
-- Returns 1 or 0.
-- @include _now
-- @include _free
-- @include _gate
-- @include _packable
local source = KEYS[1]
local inflight, time = source .. ':inflight', now()

local function something_waits()
  if redis.call('ZCOUNT', inflight, '-inf', time) > 0
      or redis.call('ZCOUNT', source .. ':settled', '-inf', time) > 0
      or packable(ARGV[5], ARGV[6]) then
    return true
  end
  if closed_for() ~= 0 or redis.call('ZCARD', inflight) >= tonumber(ARGV[2]) then
    return false
  end
  if redis.call('ZCARD', source .. ':ready') > 0 then
    return true
  end
  local fields = redis.call('HMGET', source .. ':state', 'count', 'since')
  local count = tonumber(fields[1] or 0)
  -- Taken a tick early rather than a tick late: no message waits beyond the interval.
  return count > 0 and (count >= tonumber(ARGV[3])
    or time - fields[2] >= ARGV[4] - ARGV[1])
end

if not something_waits() then
  return 0
end
free_first()
return redis.call('SET', source .. ':tick', 1, 'NX', 'PX', ARGV[4]) and 1 or 0
