-- Delete dead letters, and return the number of their messages. A batch that is none is skipped.
local function purge(source, ids)
  local found, messages = {}, 0
  for _, id in ipairs(ids) do
    if redis.call('ZREM', source .. ':dead', id) == 1 then
      found[#found + 1] = id
    end
  end
  leave_groups(source, found)
  for _, id in ipairs(found) do
    local count, bytes = batch_size(source, id, 'dead')
    redis.call('DEL', source .. ':batch:' .. id, source .. ':meta:' .. id,
      source .. ':callbacks:' .. id, source .. ':traces:' .. id)
    redis.call('ZREM', source .. ':batches', id)
    move(source, count, bytes, 'dead', 'purged')
    messages = messages + count
  end
  return messages
end
