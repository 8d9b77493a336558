-- Above maxmemory Redis refuses a script's first write if it may take memory,
-- and allows all of it after a first write that frees. A worker's transitions
-- start with this one, so that a full Redis can still be drained.
local function free_first()
  redis.call('DEL', KEYS[1] .. ':free')
end
