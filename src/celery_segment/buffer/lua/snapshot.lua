-- The source's figures at one moment.
--
-- KEYS[1] the source's prefix
-- ARGV[1] how many waiting batches to look at for the oldest message
--
-- Returns a flat list of names and values.
-- @include _now
-- @include _gate
local source, time = KEYS[1], now()
local stats = redis.call('HGETALL', source .. ':stats')
local fields = redis.call('HMGET', source .. ':state', 'count', 'since', 'trips', 'refusals')
local open = tonumber(fields[1] or 0)
local since = open > 0 and tonumber(fields[2]) or time

local function look(ids)
  for _, id in ipairs(ids) do
    since = math.min(since, tonumber(redis.call('HGET', source .. ':meta:' .. id, 'since')))
  end
end

-- The oldest messages lie in the batch ready first, or in one of those in flight.
look(redis.call('ZRANGE', source .. ':ready', 0, 0))
look(redis.call('ZRANGE', source .. ':inflight', 0, ARGV[1]))
local function add(name, value)
  table.insert(stats, name)
  table.insert(stats, value)
end
add('open', open)
add('open_bytes', redis.call('STRLEN', source .. ':open'))
add('ready_batches', redis.call('ZCARD', source .. ':ready'))
add('inflight_batches', redis.call('ZCARD', source .. ':inflight'))
add('dead_batches', redis.call('ZCARD', source .. ':dead'))
add('uncalled_batches', redis.call('ZCARD', source .. ':settled'))
add('oldest', time - since)
add('closed', closed_for())
add('gate', redis.call('GET', source .. ':gate') or '')
add('failing', (fields[3] or fields[4]) and 1 or 0)
return stats
