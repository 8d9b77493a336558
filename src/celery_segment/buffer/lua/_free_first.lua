-- Make the script's first write one that frees memory. Above maxmemory Redis refuses a
-- first write that may take memory, but allows every write after one that frees. The
-- transitions of a worker start with it, so that a full Redis can still be drained.
local function free_first(source)
  redis.call('DEL', source .. ':free')
end
