-- Note in which format the source is stored, unless a newer one is noted.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> the number of the format
--
-- Returns the format that is noted from then on
local source, own = KEYS[1], tonumber(ARGV[1])

-- @include _free_first
local state = source .. ':state'
local noted = tonumber(redis.call('HGET', state, 'format') or 0)
if noted >= own then
  return noted
end
free_first(source)
redis.call('HSET', state, 'format', own)
return own
