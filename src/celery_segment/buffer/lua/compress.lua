-- Replace a ready batch's messages by the same, compressed.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> SHA-1 of its messages, uncompressed, in hexadecimal digits; '' when there is nothing to
--            compress
-- ARGV[3] -> its messages, compressed
--
-- Returns 1 when replaced
-- Returns 0 when the batch has been claimed or compressed before, or is another one: after a
--         failover to a replica that was behind, its id may have been given to other messages
local source, id, digest, content = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

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
if digest == '' or not redis.call('ZSCORE', source .. ':ready', id)
    or redis.sha1hex(redis.call('GET', batch) or '') ~= digest then
  return 0
end
local bytes = redis.call('STRLEN', batch)
redis.call('SET', batch, content)
redis.call('HSET', source .. ':meta:' .. id, 'saved', bytes - #content)
count_saved(source, id, 1)
return 1
