-- Find out at a worker's tick whether a drain is due: there are batches to deliver, to take
-- over or to compress, or callbacks to call. Of several workers only one starts the drain.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> period of the tick, milliseconds
-- ARGV[2] -> max_inflight, batches
-- ARGV[3] -> flush_at, messages
-- ARGV[4] -> flush_interval, milliseconds
-- ARGV[5] -> ready batches from which on they are a backlog, which is compressed
-- ARGV[6] -> how many of the youngest batches are not compressed
--
-- Returns 1 when the caller is to start a drain
-- Returns 0 when there is nothing to do, or another caller got 1 and neither has its drain
--         begun nor flush_interval passed
local source = KEYS[1]
local period, max_inflight, flush_at = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local flush_interval, backlog, youngest = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- @include _now
-- @include _free_first
-- @include _closed_for
-- @include _open_is_due
-- @include _compressible_range
local inflight, time = source .. ':inflight', now()

local function is_due()
  if redis.call('ZCOUNT', inflight, '-inf', time) > 0
      or redis.call('ZCOUNT', source .. ':settled', '-inf', time) > 0
      or compressible_range(source, backlog, youngest) then
    return true
  end
  if closed_for(source) ~= 0 or redis.call('ZCARD', inflight) >= max_inflight then
    return false
  end
  -- The open batch is taken a tick early rather than a tick late: no message waits longer
  -- than flush_interval.
  return redis.call('ZCARD', source .. ':ready') > 0
    or open_is_due(source, time, flush_at, flush_interval - period)
end

if not is_due() then
  return 0
end
free_first(source)
return redis.call('SET', source .. ':tick', 1, 'NX', 'PX', flush_interval) and 1 or 0
