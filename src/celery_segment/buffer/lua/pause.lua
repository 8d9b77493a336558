-- Close the source to deliveries until it is resumed. Messages are still accepted.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns 1 when paused
-- Returns 0 when it was paused before
local source = KEYS[1]

-- @include _free_first
free_first(source)
return redis.call('SETNX', source .. ':paused', 1)
