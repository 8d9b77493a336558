-- Delete what another source has received. The messages are counted there from then on: as
-- accepted, too.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> number of the move
-- ARGV[2] -> messages: they count where the batch's record is lost
-- ARGV[3] -> bytes before compression, likewise
--
-- Returns 1 when it was deleted
-- Returns 0 when it was deleted before
local source, number = KEYS[1], ARGV[1]
local moved_count, moved_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])

-- @include _free_first
-- @include _move
-- @include _count_saved
local state = source .. ':state'
local moving = redis.call('HGET', state, 'moving') or ''
local moving_number, what, id = string.match(moving, '^(%d+) (%a+) (%S*)$')
if moving_number ~= number then
  return 0
end
free_first(source)
redis.call('HDEL', state, 'moving')
if what == 'totals' or what == 'history' then
  redis.call('DEL', source .. ':totals')
  return 1
end
local meta = source .. ':meta:' .. id
local fields = redis.call('HMGET', meta, 'count', 'bytes', 'lost')
local count, bytes, place = tonumber(fields[1]), tonumber(fields[2]), what
if not count then
  count, bytes, place = moved_count, moved_bytes, fields[3] or what
end
if what == 'ready' and redis.call('EXISTS', source .. ':batch:' .. id) == 1 then
  count_saved(source, id, -1)
end
redis.call('DEL', source .. ':batch:' .. id, meta,
  source .. ':callbacks:' .. id, source .. ':traces:' .. id)
redis.call('ZREM', source .. ':batches', id)
redis.call('HINCRBY', source .. ':stats', 'accepted', 0 - count)
move(source, count, bytes, place, '')
return 1
