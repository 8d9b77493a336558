-- Give a claimed batch back, or one whose retry is due: no delivery of it begins now.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
--
-- Returns 1 when it is ready again
-- Returns 0 when it was not in flight, or has a holder; nothing was changed
local source, id = KEYS[1], ARGV[1]

-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _move
-- @include _put_back
free_first(source)
local holder = redis.call('HGET', source .. ':meta:' .. id, 'token')
for _, from in ipairs({source .. ':inflight', source .. ':retrying'}) do
  if not holder and redis.call('ZSCORE', from, id) then
    put_back(source, id, from)
    return 1
  end
end
return 0
