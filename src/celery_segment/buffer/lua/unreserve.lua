-- Give back a request that was reserved and is not made: the next one may be made earlier.
--
-- KEYS[1] -> {segment:}, the prefix of what all sources share
-- --
-- ARGV[1] -> requests per second
--
-- Returns 1 when another one may take its place
-- Returns 0 when its time has passed, and nobody waits
local shared = KEYS[1]
local rate = tonumber(ARGV[1])

-- @include _now
-- @include _free_first
-- @include _set_pace
local time = now()
local next_at = tonumber(redis.call('GET', shared .. ':pace') or 0)
if next_at <= time then
  return 0
end
free_first(shared)
set_pace(shared, math.max(next_at - 1000 / rate, time), time)
return 1
