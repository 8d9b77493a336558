-- Delete a dead letter, and return the number of its messages; 0 where the batch is none.
local function purge(source, id)
  if redis.call('ZREM', source .. ':dead', id) == 0 then
    return 0
  end
  leave_groups(source, id)
  local count, bytes = batch_size(source, id, 'dead')
  redis.call('DEL', source .. ':batch:' .. id, source .. ':meta:' .. id,
    source .. ':callbacks:' .. id, source .. ':traces:' .. id)
  redis.call('ZREM', source .. ':batches', id)
  move(source, count, bytes, 'dead', 'purged')
  return count
end
