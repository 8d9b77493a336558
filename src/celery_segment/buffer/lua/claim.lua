-- Take ready batches into flight, oldest first; seal the open one when there is
-- room for it and it is due.
--
-- KEYS[1] the source's prefix
-- ARGV[1] max_inflight
-- ARGV[2] how many to claim at the most
-- ARGV[3] lease, milliseconds
-- ARGV[4] the open batch is due from this many messages on
-- ARGV[5] … or from this age on, milliseconds
--
-- Returns a flat list: id, messages, bytes of each batch claimed.
-- @include _now
-- @include _free
-- @include _seal
-- @include _move
-- @include _gate
local source = KEYS[1]
local ready, inflight, state = source .. ':ready', source .. ':inflight', source .. ':state'
local time, claimed = now(), {}

local function open_is_due()
  local fields = redis.call('HMGET', state, 'count', 'since')
  local count = tonumber(fields[1] or 0)
  return count > 0 and (count >= tonumber(ARGV[4]) or time - fields[2] >= tonumber(ARGV[5]))
end

if closed_for() ~= 0 then
  return claimed
end
free_first()
local room = math.min(tonumber(ARGV[1]) - redis.call('ZCARD', inflight), tonumber(ARGV[2]))
for _ = 1, room do
  local id = redis.call('ZPOPMIN', ready)[1]
  if not id and open_is_due() then
    seal(time)
    id = redis.call('ZPOPMIN', ready)[1]
  end
  if not id then
    break
  end
  local meta = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'bytes')
  redis.call('ZADD', inflight, time + ARGV[3], id)
  move(meta[1], meta[2], 'ready', 'inflight')
  table.insert(claimed, id)
  table.insert(claimed, tonumber(meta[1]))
  table.insert(claimed, tonumber(meta[2]))
end
return claimed
