-- Read what was counted in some periods of the history, the youngest first.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> milliseconds of a period
-- ARGV[2] -> number of the youngest period to read; '' for the present one
-- ARGV[3] -> how many to read
--
-- Returns a flat list: number of each period, and a flat list of names and numbers, which is empty
--         where nothing was counted
local source, period = KEYS[1], tonumber(ARGV[1])
local youngest, limit = tonumber(ARGV[2]), tonumber(ARGV[3])

-- @include _now
-- @include _add
local found = {}
youngest = youngest or math.floor(now() / period)
for number = youngest, youngest - limit + 1, -1 do
  add(found, number, redis.call('HGETALL', source .. ':history:' .. number))
end
return found
