-- Make dead letters ready again, as if never tried.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1…] -> batch ids; one that is not a dead letter is skipped
--
-- Returns the number of messages replayed
local source, ids = KEYS[1], ARGV

-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _move
-- @include _count_saved
-- @include _leave_groups
local found, messages = {}, 0
free_first(source)
for _, id in ipairs(ids) do
  if redis.call('ZREM', source .. ':dead', id) == 1 then
    found[#found + 1] = id
  end
end
leave_groups(source, found)
for _, id in ipairs(found) do
  local count, bytes = batch_size(source, id, 'dead')
  redis.call('HDEL', source .. ':meta:' .. id,
    'attempts', 'requests', 'began', 'buried', 'cause', 'refusals', 'failed', 'kinds')
  redis.call('ZADD', source .. ':ready', batch_number(id), id)
  move(source, count, bytes, 'dead', 'ready')
  count_saved(source, id, 1)
  messages = messages + count
end
return messages
