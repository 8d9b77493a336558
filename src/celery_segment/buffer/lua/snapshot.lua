-- Read the source's figures at one moment.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> how many batches in flight to search for the oldest message
-- ARGV[2] -> max_inflight, the ceiling of concurrent requests
--
-- Returns a flat list of names and values
local source, limit, max_inflight = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _now
-- @include _add
-- @include _closed_for
-- @include _is_failing
-- @include _free_first
-- @include _recount
-- @include _open_count
-- @include _memory
-- @include _limit_of
local ready, inflight, time = source .. ':ready', source .. ':inflight', now()
local retrying = source .. ':retrying'
local figures = redis.call('HGETALL', source .. ':stats')
local open, refusing = open_count(source)
local oldest = open > 0 and tonumber(redis.call('HGET', source .. ':state', 'since')) or time
local used, most = memory()

local function search(ids)
  for _, id in ipairs(ids) do
    local since = redis.call('HGET', source .. ':meta:' .. id, 'since')
    oldest = math.min(oldest, tonumber(since or oldest))
  end
end

search(redis.call('ZRANGE', ready, 0, 0))
search(redis.call('ZRANGE', inflight, 0, limit))
search(redis.call('ZRANGE', retrying, 0, limit))
add(figures, 'buffered', open)
add(figures, 'buffered_batches', open > 0 and 1 or 0)
add(figures, 'buffered_bytes', redis.call('STRLEN', source .. ':open'))
add(figures, 'ready_batches', redis.call('ZCARD', ready))
add(figures, 'inflight_batches', redis.call('ZCARD', inflight) + redis.call('ZCARD', retrying))
add(figures, 'dead_batches', redis.call('ZCARD', source .. ':dead'))
add(figures, 'uncalled_batches', redis.call('ZCARD', source .. ':settled'))
add(figures, 'oldest', time - oldest)
add(figures, 'closed', closed_for(source))
add(figures, 'gate', redis.call('GET', source .. ':gate') or '')
add(figures, 'tripped_cause', redis.call('HGET', source .. ':state', 'tripped_cause') or '')
add(figures, 'format', redis.call('HGET', source .. ':state', 'format') or 1)
add(figures, 'owner', redis.call('HGET', source .. ':state', 'owner') or '')
add(figures, 'failing', is_failing(source) and 1 or 0)
add(figures, 'concurrency', limit_of(source, max_inflight))
add(figures, 'refusing', refusing and 1 or 0)
add(figures, 'memory_used', used or 0)
add(figures, 'memory_most', most or 0)
return figures
