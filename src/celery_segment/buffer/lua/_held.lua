-- Return a batch's count and bytes when the token is its holder's; else nil, as where the record
-- is lost: what this holder does can not be counted.
local function held(source, id, token)
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'token', 'count', 'bytes')
  if fields[1] ~= token or not fields[2] then
    return nil
  end
  return tonumber(fields[2]), tonumber(fields[3])
end
