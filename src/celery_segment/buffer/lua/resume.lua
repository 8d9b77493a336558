-- Let a paused or failing source accept deliveries again: forget its failures and make its
-- waiting retries due. A wait that the endpoint asked for (Retry-After) is kept.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns for how many milliseconds the source stays closed to deliveries
local source = KEYS[1]

-- @include _now
-- @include _free_first
-- @include _reset_failures
local gate, inflight = source .. ':gate', source .. ':inflight'
free_first(source)
redis.call('DEL', source .. ':paused')
if string.sub(redis.call('GET', gate) or '', 1, 6) == 'asked ' then
  return redis.call('PTTL', gate)
end
redis.call('DEL', gate)
reset_failures(source)
local time = now()
for _, id in ipairs(redis.call('ZRANGE', inflight, 0, -1)) do
  if not redis.call('HGET', source .. ':meta:' .. id, 'token') then
    redis.call('ZADD', inflight, time, id)
  end
end
return 0
