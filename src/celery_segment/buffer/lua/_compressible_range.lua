-- Return the first and the last number of the ready batches that a backlog leaves to be
-- compressed, or nil. A backlog is `backlog` ready batches or more. Its `youngest` are left
-- alone: a call whose reply was lost searches them for its message.
local function compressible_range(source, backlog, youngest)
  if redis.call('ZCARD', source .. ':ready') < backlog then
    return nil
  end
  local fields = redis.call('HMGET', source .. ':state', 'sequence', 'compressed')
  local first, last = tonumber(fields[2] or 0) + 1, tonumber(fields[1] or 0) - youngest
  if redis.call('ZCOUNT', source .. ':ready', first, last) > 0 then
    return first, last
  end
end
