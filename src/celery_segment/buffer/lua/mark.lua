-- Seal the open batch, so that all that is stored now has an id up to the mark.
--
-- KEYS[1] the source's prefix
--
-- Returns the mark, the last id given.
-- @include _now
-- @include _free
-- @include _seal
local state = KEYS[1] .. ':state'
free_first()
if tonumber(redis.call('HGET', state, 'count') or 0) > 0 then
  seal(now())
end
return tonumber(redis.call('HGET', state, 'sequence') or 0)
