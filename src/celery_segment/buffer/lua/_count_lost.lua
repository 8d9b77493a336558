-- Count as damaged what the figures hold of batches that are gone together with their records.
-- That shows once no batch is left which it could be about, one that is being moved to another
-- source among them. Where the figures themselves were lost they hold too little: it is added to
-- what was accepted.
local function count_lost(source)
  local stats = source .. ':stats'
  if redis.call('ZCARD', source .. ':ready') + redis.call('ZCARD', source .. ':inflight')
      + redis.call('ZCARD', source .. ':retrying')
      + redis.call('HEXISTS', source .. ':state', 'moving') > 0 then
    return
  end
  local places = {'ready', 'inflight'}
  if redis.call('ZCARD', source .. ':dead') == 0 then
    places[3] = 'dead'
  end
  for _, place in ipairs(places) do
    local fields = redis.call('HMGET', stats, place, place .. '_bytes')
    local count, bytes = tonumber(fields[1] or 0), tonumber(fields[2] or 0)
    if count > 0 then
      move(source, count, bytes, place, 'damaged')
    elseif count ~= 0 or bytes ~= 0 then
      move(source, count, bytes, place, '')
      redis.call('HINCRBY', stats, 'accepted', 0 - count)
    end
  end
  if tonumber(redis.call('HGET', stats, 'saved_bytes') or 0) ~= 0 then
    redis.call('HSET', stats, 'saved_bytes', 0)
  end
end
