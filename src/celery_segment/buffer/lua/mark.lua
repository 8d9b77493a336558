-- Seal the open batch, so that the number of every stored batch is at most the mark.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns the mark: the number of the last batch
local source = KEYS[1]

-- @include _now
-- @include _free_first
-- @include _seal
local state = source .. ':state'
free_first(source)
if tonumber(redis.call('HGET', state, 'count') or 0) > 0 then
  seal(source, now())
end
return tonumber(redis.call('HGET', state, 'sequence') or 0)
