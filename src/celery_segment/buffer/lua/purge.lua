-- Delete dead letters.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1…] -> batch ids; one that is not a dead letter is skipped
--
-- Returns the number of messages deleted
local source, ids = KEYS[1], ARGV

-- @include _batch_size
-- @include _move
local messages = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', source .. ':dead', id) == 1 then
    local count, bytes = batch_size(source, id, 'dead')
    redis.call('DEL', source .. ':batch:' .. id, source .. ':meta:' .. id,
      source .. ':callbacks:' .. id, source .. ':traces:' .. id)
    move(source, count, bytes, 'dead', 'purged')
    messages = messages + count
  end
end
return messages
