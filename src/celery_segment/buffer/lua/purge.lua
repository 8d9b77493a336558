-- Delete dead letters.
--
-- KEYS[1]  the source's prefix
-- ARGV[1…] batch ids; one that is not dead is passed over
--
-- Returns the number of messages.
-- @include _move
local source, messages = KEYS[1], 0
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', source .. ':dead', id) == 1 then
    local meta = source .. ':meta:' .. id
    local fields = redis.call('HMGET', meta, 'count', 'bytes')
    redis.call('DEL', source .. ':batch:' .. id, meta,
      source .. ':callbacks:' .. id, source .. ':traces:' .. id)
    move(fields[1], fields[2], 'dead', 'purged')
    messages = messages + fields[1]
  end
end
return messages
