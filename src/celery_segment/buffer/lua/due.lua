-- Find out at a worker's tick whether a drain is due: there are batches to deliver, to take
-- over or to compress, callbacks to call, or dead letters to delete. Of several workers only one starts the drain.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> shortest time between two drains, milliseconds
-- ARGV[2] -> max_inflight, the ceiling of concurrent requests
-- ARGV[3] -> milliseconds from which on a retry is overdue: its task message was lost
-- ARGV[4] -> milliseconds after which a drain that has not begun is started again; doubled
--            each time that it does not begin
-- ARGV[5] -> the longest such time, milliseconds
-- ARGV[6] -> ready batches from which on they are a backlog, which is compressed
-- ARGV[7] -> how many of the youngest batches are not compressed
-- ARGV[8] -> largest share of its maxmemory that Redis may use; '' not to look
-- ARGV[9] -> for how long a dead letter is kept, milliseconds; '' for ever
-- ARGV[10] -> milliseconds of its lease that a claimed batch has left when its delivery was to have
--            begun
-- ARGV[11] -> 1 when the caller did not get the last reply, which may have told it to start a drain;
--            else 0
-- ARGV[12] -> 1 where the source keeps the order of its messages, else 0
--
-- Returns 1 when the caller is to start a drain
-- Returns 0 when there is nothing to do, or when another caller has just got 1
local source = KEYS[1]
local shortest, max_inflight, overdue = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local again, longest = tonumber(ARGV[4]), tonumber(ARGV[5])
local backlog, youngest, max_share = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local retention, left, is_unsure = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11] == '1'
local ordered = ARGV[12] == '1'

-- @include _now
-- @include _free_first
-- @include _closed_for
-- @include _is_failing
-- @include _recount
-- @include _open_count
-- @include _memory
-- @include _keep_room
-- @include _limit_of
-- @include _room_of
-- @include _compressible_range
-- @include _abandoned
local state, ready, inflight = source .. ':state', source .. ':ready', source .. ':inflight'
local time = now()
-- A write, though nothing is due: a primary that was demoted, and has lost the new one, would
-- answer from what it had, for ever.
free_first(source)
local open, refusing = open_count(source)
local ready_count = redis.call('ZCARD', ready)

if max_share and (open > 0 or ready_count > 0 or refusing) then
  keep_room(source, max_share)
end

local function is_due()
  if redis.call('ZCOUNT', inflight, '-inf', time) > 0
      or redis.call('ZCOUNT', source .. ':retrying', '-inf', time - overdue) > 0
      or redis.call('ZCOUNT', source .. ':settled', '-inf', time) > 0
      or retention and redis.call('ZCOUNT', source .. ':dead', '-inf', time - retention) > 0
      or compressible_range(source, backlog, youngest) then
    return true
  end
  -- While one batch tests whether the endpoint still fails, a drain could only put others back.
  local probed = is_failing(source) and redis.call('EXISTS', source .. ':probe') == 1
  if probed or closed_for(source) ~= 0 then
    return false
  end
  return (ready_count > 0 or open > 0)
    and room_of(source, max_inflight, ordered) > 0
    or abandoned(source, time + left)
end

if not is_due() then
  return 0
end
local fields = redis.call('HMGET', state, 'ticked', 'unanswered')
local unanswered = is_unsure and 0 or tonumber(fields[2] or 0)
local wait = unanswered == 0 and shortest or math.min(again * 2 ^ (unanswered - 1), longest)
if time - (fields[1] or 0) < wait then
  return 0
end
redis.call('HSET', state, 'ticked', time, 'unanswered', unanswered + 1)
return 1
