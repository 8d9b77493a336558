-- Return the memory that Redis uses and its maxmemory, bytes; nil where it has none, or
-- where INFO is forbidden.
local function memory()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then
    return nil
  end
  local used = tonumber(string.match(info, 'used_memory:(%d+)'))
  local most = tonumber(string.match(info, 'maxmemory:(%d+)'))
  if not used or not most or most == 0 then
    return nil
  end
  -- As Redis itself counts: buffers of replicas and of the append-only file are left out.
  return used - (string.match(info, 'mem_not_counted_for_evict:(%d+)') or 0), most
end
