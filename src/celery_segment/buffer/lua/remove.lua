-- Delete what is left of a source whose messages and totals have been moved to another one.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns 1 when nothing of the source is stored
-- Returns 0 when it holds something; nothing was changed
local source = KEYS[1]

-- @include _free_first
-- @include _recount
-- @include _open_count
-- @include _is_empty
local LEFT = {':open', ':count', ':state', ':batches', ':callbacks', ':traces', ':waiting', ':gate',
  ':paused', ':probe', ':looked', ':tail', ':origins', ':groups', ':grouped',
  ':violations'}
if not is_empty(source) or redis.call('EXISTS', source .. ':stats') == 1
    or redis.call('HEXISTS', source .. ':state', 'moving') == 1 then
  return 0
end
for _, key in ipairs(LEFT) do
  redis.call('DEL', source .. key)
end
return 1
