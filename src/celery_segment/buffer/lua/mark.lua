-- Seal the open batch, so that the number of every stored batch is at most the mark.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns the mark: the number of the last batch
local source = KEYS[1]

-- @include _free_first
-- @include _now
-- @include _recount
-- @include _open_count
-- @include _add_to_history
-- @include _keep_for_tail
-- @include _next_number
-- @include _seal
free_first(source)
if open_count(source) > 0 then
  seal(source)
end
return tonumber(redis.call('HGET', source .. ':state', 'sequence') or 0)
