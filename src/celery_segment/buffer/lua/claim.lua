-- Take ready batches into flight, oldest first; seal the open batch when it is due and there
-- is room for it.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> max_inflight, batches
-- ARGV[2] -> how many batches to claim at most
-- ARGV[3] -> lease, milliseconds
-- ARGV[4] -> messages from which on the open batch is due
-- ARGV[5] -> age from which on the open batch is due, milliseconds
-- ARGV[6] -> 1 to return a batch that was claimed before and whose delivery has not begun,
--            and to claim only when there is none; else 0
--
-- Returns a flat list: id, messages, bytes of each batch; empty when none is ready or the
--         source is closed to deliveries
local source = KEYS[1]
local max_inflight, limit, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due_count, due_age = tonumber(ARGV[4]), tonumber(ARGV[5])
local prefer_claimed = ARGV[6] == '1'

-- @include _now
-- @include _add
-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _open_is_due
-- @include _seal
-- @include _move
-- @include _closed_for
local ready, inflight, waiting = source .. ':ready', source .. ':inflight', source .. ':waiting'
local time, claimed = now(), {}

if closed_for(source) ~= 0 then
  return claimed
end
free_first(source)
if prefer_claimed then
  local id = redis.call('ZPOPMIN', waiting)[1]
  if id then
    add(claimed, id, batch_size(source, id))
    return claimed
  end
end
for _ = 1, math.min(max_inflight - redis.call('ZCARD', inflight), limit) do
  local id = redis.call('ZPOPMIN', ready)[1]
  if not id and open_is_due(source, time, due_count, due_age) then
    seal(source, time)
    id = redis.call('ZPOPMIN', ready)[1]
  end
  if not id then
    break
  end
  redis.call('ZADD', inflight, time + lease, id)
  redis.call('ZADD', waiting, batch_number(id), id)
  local count, bytes = batch_size(source, id)
  move(source, count, bytes, 'ready', 'inflight')
  add(claimed, id, count, bytes)
end
return claimed
