-- Delete the messages of a settled batch: those of a dead letter are kept.
local function forget_delivered(source, name)
  local id = string.match(name, '^delivered:(.+)$')
  if id then
    redis.call('DEL', source .. ':batch:' .. id)
    redis.call('ZREM', source .. ':batches', id)
  end
end
