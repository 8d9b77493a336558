-- The numbers between which ready batches of a backlog lie unpacked, or nil. The youngest
-- stay as they are: a call whose reply was lost looks for its message in them.
local function packable(backlog, youngest)
  local source = KEYS[1]
  if redis.call('ZCARD', source .. ':ready') < tonumber(backlog) then
    return nil
  end
  local fields = redis.call('HMGET', source .. ':state', 'sequence', 'packed')
  local from, to = tonumber(fields[2] or 0) + 1, tonumber(fields[1]) - youngest
  if redis.call('ZCOUNT', source .. ':ready', from, to) > 0 then
    return from, to
  end
end
