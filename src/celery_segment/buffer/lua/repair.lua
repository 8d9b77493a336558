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
-- @include _move
-- @include _count_saved
local meta = source .. ':meta:' .. id
local fields = redis.call('HMGET', meta, 'token', 'count', 'lost')
if fields[1] ~= token or fields[2] then
  return 0
end
free_first(source)
-- Where the figures count it still: each transition since has counted it as empty.
local place = fields[3] or 'inflight'
redis.call('HDEL', meta, 'lost')
redis.call('HSET', meta, 'count', count, 'bytes', bytes)
redis.call('HSETNX', meta, 'since', now())
move(source, count, bytes, place, 'inflight')
local saved = bytes - redis.call('STRLEN', source .. ':batch:' .. id)
if saved ~= 0 then
  redis.call('HSET', meta, 'saved', saved)
  if place == 'dead' then
    count_saved(source, id, 1)
  end
end
return 1
