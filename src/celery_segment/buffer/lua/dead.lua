-- List dead letters, the oldest first.
--
-- KEYS[1] the source's prefix
-- ARGV[1] how many to pass over
-- ARGV[2] how many to return at the most
--
-- Returns a flat list: id, messages, bytes, buried (milliseconds), reason of each.
local source, found = KEYS[1], {}
local ids = redis.call('ZRANGE', source .. ':dead', ARGV[1], ARGV[1] + ARGV[2] - 1)
for _, id in ipairs(ids) do
  local fields = redis.call('HMGET', source .. ':meta:' .. id,
    'count', 'bytes', 'buried', 'cause')
  table.insert(found, id)
  table.insert(found, tonumber(fields[1]))
  table.insert(found, tonumber(fields[2]))
  table.insert(found, tonumber(fields[3]))
  table.insert(found, fields[4])
end
return found
