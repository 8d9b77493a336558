-- Count the messages up to a mark that are not settled yet.
--
-- KEYS[1] the source's prefix
-- ARGV[1] the mark
-- ARGV[2] how many batches to look at, at the most
--
-- Returns the number of messages; where more batches wait, that of all which are
-- sealed, those above the mark included.
local source, mark = KEYS[1], tonumber(ARGV[1])
local ready, inflight, messages = source .. ':ready', source .. ':inflight', 0
if redis.call('ZCOUNT', ready, '-inf', mark) + redis.call('ZCARD', inflight) > tonumber(ARGV[2]) then
  local waiting = redis.call('HMGET', source .. ':stats', 'ready', 'inflight')
  return (waiting[1] or 0) + (waiting[2] or 0)
end
local function add(ids)
  for _, id in ipairs(ids) do
    if tonumber(string.match(id, '^%d+')) <= mark then
      messages = messages + redis.call('HGET', source .. ':meta:' .. id, 'count')
    end
  end
end
add(redis.call('ZRANGE', inflight, 0, -1))
add(redis.call('ZRANGEBYSCORE', ready, '-inf', mark))
return messages
