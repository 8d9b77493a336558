-- Delete dead letters that have been kept for as long as they are to be, the oldest first.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> for how long a dead letter is kept, milliseconds
-- ARGV[2] -> how many to delete at most
--
-- Returns the number of messages deleted
local source, retention, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _now
-- @include _batch_size
-- @include _move
-- @include _leave_groups
-- @include _purge
local dead, last = source .. ':dead', now() - retention
return purge(source, redis.call('ZRANGEBYSCORE', dead, '-inf', last, 'LIMIT', 0, limit))
