-- Count what a batch takes less than its messages, where it lies packed, as saved (1) or
-- as saved no more (-1).
local function account(sign, id, bytes)
  local less = bytes - redis.call('STRLEN', KEYS[1] .. ':batch:' .. id)
  if less ~= 0 then
    redis.call('HINCRBY', KEYS[1] .. ':stats', 'saved_bytes', sign * less)
  end
end
