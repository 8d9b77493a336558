-- Reserve requests for the near future, so that all workers together keep to a rate.
--
-- KEYS[1] -> {segment:}, the prefix of what all sources share
-- --
-- ARGV[1] -> requests per second
-- ARGV[2] -> how many requests to reserve
-- ARGV[3] -> longest wait, milliseconds: where it is longer, nothing is reserved
--
-- Returns {1, milliseconds until the first of them may be made}
-- Returns {0, milliseconds}: nothing was reserved; the wait would be so long
local shared = KEYS[1]
local rate, number, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- @include _now
-- @include _free_first
local pace, time = shared .. ':pace', now()
-- The time at which the next request may be made.
local next_at = math.max(tonumber(redis.call('GET', pace) or 0), time)
local wait = math.ceil(next_at - time)
if wait > longest then
  return {0, wait}
end
free_first(shared)
next_at = next_at + number * 1000 / rate
redis.call('SET', pace, string.format('%.3f', next_at), 'PX', math.ceil(next_at - time) + 1000)
return {1, wait}
