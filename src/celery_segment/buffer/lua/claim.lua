-- Take ready batches into flight, oldest first; where they are fewer than may be taken, seal
-- the open batch and take it, too. While the endpoint fails, those that have not failed come first.
-- Before them comes one that was claimed some time ago and whose delivery has not begun.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> max_inflight, the ceiling of concurrent requests
-- ARGV[2] -> how many batches to claim at most
-- ARGV[3] -> lease, milliseconds
-- ARGV[4] -> for how long one process delivers, milliseconds: no more batches are claimed than
--            so many processes are needed for, by the latency of the answers; 0 for no such limit
-- ARGV[5] -> 1 to leave the open batch to a flush, and to return a batch that was claimed before
--            and waits for its delivery, if there is one; else 0
-- ARGV[6] -> 1 where the caller begins with the first batch at once; else 0. The others wait for
--            the tasks that are published for them, or for a delivery that has time before
-- ARGV[7] -> milliseconds within which a delivery begins
-- ARGV[8] -> 1 where the source keeps the order of its messages, else 0
--
-- Returns a flat list: id, messages, bytes of each batch; empty when none is ready or the
--         source is closed to deliveries
local source = KEYS[1]
local max_inflight, most, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stint, continues, begins = tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6] == '1'
local patience, ordered = tonumber(ARGV[7]), ARGV[8] == '1'

-- @include _now
-- @include _add
-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _recount
-- @include _open_count
-- @include _add_to_history
-- @include _keep_for_tail
-- @include _next_number
-- @include _seal
-- @include _move
-- @include _closed_for
-- @include _limit_of
-- @include _room_of
-- @include _abandoned
-- @include _is_failing
-- @include _untried
-- @include _open_first
-- Milliseconds that an answer is taken to need before the first one.
local LATENCY = 100
local ready, inflight, waiting = source .. ':ready', source .. ':inflight', source .. ':waiting'
local time, claimed = now(), {}

if closed_for(source) ~= 0 then
  return claimed
end
free_first(source)
local before = continues and redis.call('ZRANGE', waiting, 0, 0)[1]
  or abandoned(source, time + lease - patience)
if before then
  if begins then
    redis.call('ZREM', waiting, before)
  else
    redis.call('ZADD', waiting, batch_number(before), before)
  end
  redis.call('ZADD', inflight, time + lease, before)
  add(claimed, before, batch_size(source, before, 'inflight'))
  if continues then
    return claimed
  end
  most = most - 1
end
local room = room_of(source, max_inflight, ordered)
local count = redis.call('ZCARD', ready)
local has_open = not continues and open_count(source) > 0
if stint > 0 then
  local latency = redis.call('HGET', source .. ':state', 'latency') or LATENCY
  local needed = math.ceil((count + (has_open and 1 or 0)) * latency / stint)
  most = math.min(most, math.max(needed, 1))
end
most = math.min(most, room)
if has_open and (count < most or most > 0 and not ordered and open_first(source)) then
  seal(source)
  count = count + 1
end
local failing = is_failing(source) and not ordered
for n = 1, math.min(most, count) do
  -- While the endpoint fails, one that has not failed yet shows more than one that has.
  local id = failing and untried(source) or redis.call('ZRANGE', ready, 0, 0)[1]
  redis.call('ZREM', ready, id)
  redis.call('ZADD', inflight, time + lease, id)
  if before or n > 1 or not begins then
    redis.call('ZADD', waiting, batch_number(id), id)
  end
  local messages, bytes = batch_size(source, id, 'ready')
  move(source, messages, bytes, 'ready', 'inflight')
  add(claimed, id, messages, bytes)
end
return claimed
