-- Let a paused or failing source accept deliveries again: forget its failures and make the
-- batches that wait for a retry ready. A wait that the endpoint asked for (Retry-After) is kept.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> how many batches to make ready at most; the others keep their waits
--
-- Returns for how many milliseconds the source stays closed to deliveries
local source, limit = KEYS[1], tonumber(ARGV[1])

-- @include _now
-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _move
-- @include _put_back
-- @include _reset_failures
local gate, state, retrying = source .. ':gate', source .. ':state', source .. ':retrying'
free_first(source)
redis.call('DEL', source .. ':paused')
if string.sub(redis.call('GET', gate) or '', 1, 6) == 'asked ' then
  return redis.call('PTTL', gate)
end
redis.call('DEL', gate)
-- One that came during a longer pause of the breaker.
local asked = tonumber(redis.call('HGET', state, 'asked') or 0) - now()
if asked > 0 then
  redis.call('SET', gate, 'asked ' .. redis.call('HGET', state, 'asked_cause'), 'PX', asked)
end
reset_failures(source)
for _, id in ipairs(redis.call('ZRANGE', retrying, 0, limit - 1)) do
  put_back(source, id, retrying)
end
return math.max(asked, 0)
