-- Delete dead letters.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1…] -> batch ids; one that is not a dead letter is skipped
--
-- Returns the number of messages deleted
local source, ids = KEYS[1], ARGV

-- @include _batch_size
-- @include _move
-- @include _leave_groups
-- @include _purge
return purge(source, ids)
