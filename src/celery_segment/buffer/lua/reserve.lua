-- Reserve a request for the near future, so that all workers together keep to a rate.
--
-- KEYS[1] -> {segment:}, the prefix of what all sources share
-- --
-- ARGV[1] -> requests per second
-- ARGV[2] -> longest wait, milliseconds: where it is longer, nothing is reserved
--
-- Returns {1, milliseconds until the request may be made}
-- Returns {0, milliseconds}: nothing was reserved; the wait would be so long
local shared = KEYS[1]
local rate, longest = tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _now
-- @include _free_first
-- @include _set_pace
local time = now()
-- The time at which the next request may be made.
local next_at = math.max(tonumber(redis.call('GET', shared .. ':pace') or 0), time)
local wait = math.ceil(next_at - time)
if wait > longest then
  return {0, wait}
end
free_first(shared)
set_pace(shared, next_at + 1000 / rate, time)
return {1, wait}
