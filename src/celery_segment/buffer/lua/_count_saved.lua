-- Add the bytes that compression saves in a stored batch to `saved_bytes` (sign 1), or
-- subtract them (sign -1). To be called while the batch has its record.
local function count_saved(source, id, sign)
  local saved = redis.call('HGET', source .. ':meta:' .. id, 'saved')
  if saved then
    redis.call('HINCRBY', source .. ':stats', 'saved_bytes', sign * saved)
  end
end
