-- Return a batch's count and bytes when the token is its holder's; else nil.
local function held(source, id, token)
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'token', 'count', 'bytes')
  if fields[1] ~= token then
    return nil
  end
  return tonumber(fields[2] or 0), tonumber(fields[3] or 0)
end
