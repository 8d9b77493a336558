-- Open the source. A wait that the endpoint asked for is kept; the pauses of a
-- failing or refusing endpoint are forgotten, and waiting retries made due.
--
-- KEYS[1] the source's prefix
--
-- Returns the milliseconds for which the source stays closed.
-- @include _now
-- @include _free
-- @include _answered
local source = KEYS[1]
local gate, inflight = source .. ':gate', source .. ':inflight'
free_first()
redis.call('DEL', source .. ':paused')
if string.sub(redis.call('GET', gate) or '', 1, 6) == 'asked ' then
  return redis.call('PTTL', gate)
end
redis.call('DEL', gate)
answered()
local time = now()
for _, id in ipairs(redis.call('ZRANGE', inflight, 0, -1)) do
  if not redis.call('HGET', source .. ':meta:' .. id, 'token') then
    redis.call('ZADD', inflight, time, id)
  end
end
return 0
