-- Write the record of a batch in flight anew, whose own is gone.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token
-- ARGV[3] -> messages
-- ARGV[4] -> bytes before compression
--
-- Returns 1 when it was written
-- Returns 0 when the token is not the holder's, or there is a record; nothing was changed
local source, id, token, count, bytes = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- @include _now
-- @include _free_first
-- @include _held
-- @include _move
local known = held(source, id, token)
if not known or known > 0 then
  return 0
end
free_first(source)
redis.call('HSET', source .. ':meta:' .. id, 'count', count, 'bytes', bytes, 'since', now())
-- The claim counted it as empty.
move(source, count, bytes, 'ready', 'inflight')
return 1
