-- Add the bytes that compression saves in a stored batch to `saved_bytes` (sign 1), or
-- subtract them (sign -1).
local function count_saved(source, id, bytes, sign)
  local saved = bytes - redis.call('STRLEN', source .. ':batch:' .. id)
  if saved ~= 0 then
    redis.call('HINCRBY', source .. ':stats', 'saved_bytes', sign * saved)
  end
end
