-- Return how many more batches may be taken into flight. Where the source keeps the order of its
-- messages, that is none while one waits for a retry: the others would overtake it.
local function room_of(source, ceiling, ordered)
  if ordered and redis.call('ZCARD', source .. ':retrying') > 0 then
    return 0
  end
  return limit_of(source, ceiling) - redis.call('ZCARD', source .. ':inflight')
end
