-- Write what changes nothing: replicas that confirm it have all that was written before.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns 0
local source = KEYS[1]

redis.call('HINCRBY', source .. ':stats', 'dropped_unknown', 0)
return 0
