-- Count the unsettled messages of the batches up to a mark.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> the mark, a batch's number
-- ARGV[2] -> how many batches to read at most
--
-- Returns the number of messages; where that takes more batches than ARGV[2], the number in
--         all sealed batches, those above the mark included
local source, mark, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _batch_number
local ready, messages = source .. ':ready', 0
local inflight, retrying = source .. ':inflight', source .. ':retrying'

local function count(ids)
  for _, id in ipairs(ids) do
    if batch_number(id) <= mark then
      messages = messages + (redis.call('HGET', source .. ':meta:' .. id, 'count') or 0)
    end
  end
end

if redis.call('ZCOUNT', ready, '-inf', mark) + redis.call('ZCARD', inflight)
    + redis.call('ZCARD', retrying) > limit then
  local stats = redis.call('HMGET', source .. ':stats', 'ready', 'inflight')
  return (stats[1] or 0) + (stats[2] or 0)
end
count(redis.call('ZRANGE', inflight, 0, -1))
count(redis.call('ZRANGE', retrying, 0, -1))
count(redis.call('ZRANGEBYSCORE', ready, '-inf', mark))
return messages
