-- Give a claimed batch back, or one whose retry is due, without an attempt that counts.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token; '' when no delivery has begun
--
-- Returns 1 when it is ready again
-- Returns 0 when it was not in flight, or has another holder; nothing was changed
local source, id, token = KEYS[1], ARGV[1], ARGV[2]

-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _move
-- @include _put_back
-- @include _release_probe
free_first(source)
local holder = redis.call('HGET', source .. ':meta:' .. id, 'token') or ''
for _, from in ipairs({source .. ':inflight', source .. ':retrying'}) do
  if holder == token and redis.call('ZSCORE', from, id) then
    put_back(source, id, from)
    release_probe(source, id)
    return 1
  end
end
return 0
