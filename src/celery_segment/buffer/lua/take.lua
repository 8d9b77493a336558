-- Take a claimed batch for the task that was published for it, unless it was begun since.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
--
-- Returns 1 when the batch waited for this; no other delivery takes it now
-- Returns 0 when it does not wait: a delivery that had time for it took it, or it was put back
local source, id = KEYS[1], ARGV[1]

-- @include _free_first
free_first(source)
return redis.call('ZREM', source .. ':waiting', id)
