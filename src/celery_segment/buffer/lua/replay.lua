-- Put dead letters back among the ready batches, as if never tried.
--
-- KEYS[1]  the source's prefix
-- ARGV[1…] batch ids; one that is not dead is passed over
--
-- Returns the number of messages.
-- @include _free
-- @include _move
-- @include _account
local source, messages = KEYS[1], 0
free_first()
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', source .. ':dead', id) == 1 then
    local meta = source .. ':meta:' .. id
    local fields = redis.call('HMGET', meta, 'count', 'bytes')
    redis.call('HDEL', meta, 'attempts', 'requests', 'began', 'buried', 'cause')
    redis.call('ZADD', source .. ':ready', string.match(id, '^%d+'), id)
    move(fields[1], fields[2], 'dead', 'ready')
    account(1, id, fields[2])
    messages = messages + fields[1]
  end
end
return messages
