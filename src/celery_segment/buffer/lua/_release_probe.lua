-- Let another batch become the probe, if this one is it.
local function release_probe(source, id)
  local probe = source .. ':probe'
  if redis.call('GET', probe) == id then
    redis.call('DEL', probe)
  end
end
