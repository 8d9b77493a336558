-- The batch's meta key, count and bytes when ARGV[2] is its holder's token; else nil.
local function held()
  local meta = KEYS[1] .. ':meta:' .. ARGV[1]
  local fields = redis.call('HMGET', meta, 'token', 'count', 'bytes')
  if fields[1] ~= ARGV[2] then
    return nil
  end
  return meta, tonumber(fields[2]), tonumber(fields[3])
end
