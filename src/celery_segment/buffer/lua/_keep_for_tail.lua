-- How many copies of batches there are at most, also where nobody reads them in time.
local TAIL_BATCHES = 1000

-- Copy a batch for those who follow the source, if anybody does: its delivery may delete it before
-- they have read it. The copy ends with them, unless they have read it before.
local function keep_for_tail(source, id)
  local left = redis.call('PTTL', source .. ':tail')
  if left > 0 then
    redis.call('COPY', source .. ':batch:' .. id, source .. ':tailed:' .. id)
    redis.call('PEXPIRE', source .. ':tailed:' .. id, left)
    redis.call('DEL', source .. ':tailed:' .. (id - TAIL_BATCHES))
  end
end
