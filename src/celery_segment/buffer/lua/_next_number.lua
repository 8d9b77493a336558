-- Return the number of a new batch.
local function next_number(source)
  local state = source .. ':state'
  local number = redis.call('HINCRBY', state, 'sequence', 1)
  if number == 1 and redis.call('HEXISTS', source .. ':stats', 'accepted') == 1 then
    -- :state was lost. The time is above each number that was used.
    number = now()
    redis.call('HSET', state, 'sequence', number)
  end
  return number
end
