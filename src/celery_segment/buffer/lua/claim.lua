-- Take ready batches into flight, oldest first; seal the open one when there is
-- room for it and it is due.
--
-- KEYS[1] the source's prefix
-- ARGV[1] max_inflight
-- ARGV[2] how many to claim at the most
-- ARGV[3] lease, milliseconds
-- ARGV[4] the open batch is due from this many messages on
-- ARGV[5] … or from this age on, milliseconds
-- ARGV[6] 1 for a delivery that goes on: it is given a batch that was claimed before and
--         still waits for a delivery to begin, and claims only when there is none; else 0
--
-- Returns a flat list: id, messages, bytes of each batch.
-- @include _now
-- @include _free
-- @include _seal
-- @include _move
-- @include _gate
local source = KEYS[1]
local ready, inflight, state = source .. ':ready', source .. ':inflight', source .. ':state'
local waiting = source .. ':waiting'
local time, claimed = now(), {}

local function give(id)
  local meta = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'bytes')
  table.insert(claimed, id)
  table.insert(claimed, tonumber(meta[1]))
  table.insert(claimed, tonumber(meta[2]))
  return meta[1], meta[2]
end

local function open_is_due()
  local fields = redis.call('HMGET', state, 'count', 'since')
  local count = tonumber(fields[1] or 0)
  return count > 0 and (count >= tonumber(ARGV[4]) or time - fields[2] >= tonumber(ARGV[5]))
end

if closed_for() ~= 0 then
  return claimed
end
free_first()
if ARGV[6] == '1' then
  local id = redis.call('ZPOPMIN', waiting)[1]
  if id then
    give(id)
    return claimed
  end
end
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
  redis.call('ZADD', inflight, time + ARGV[3], id)
  redis.call('ZADD', waiting, string.match(id, '^%d+'), id)
  local count, bytes = give(id)
  move(count, bytes, 'ready', 'inflight')
end
return claimed
