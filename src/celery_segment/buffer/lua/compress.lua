-- Replace a ready batch's messages by the same, compressed.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> size of its messages, uncompressed, bytes; 0 when there is nothing to compress
-- ARGV[3] -> its messages, compressed
--
-- Returns 1 when replaced
-- Returns 0 when the batch has been claimed or compressed before
local source, id, bytes, content = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]

-- @include _batch_number
-- @include _free_first
-- @include _count_saved
local batch, state = source .. ':batch:' .. id, source .. ':state'
free_first(source)
-- Batches up to `compressed` are not looked at again. Another drain may have raised it further.
local number = batch_number(id)
if number > tonumber(redis.call('HGET', state, 'compressed') or 0) then
  redis.call('HSET', state, 'compressed', number)
end
if bytes == 0 or redis.call('STRLEN', batch) ~= bytes
    or not redis.call('ZSCORE', source .. ':ready', id) then
  return 0
end
redis.call('SET', batch, content)
redis.call('HSET', source .. ':meta:' .. id, 'saved', bytes - #content)
count_saved(source, id, 1)
return 1
