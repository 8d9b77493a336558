-- Put a batch that is ready in its place, packed.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] its size, unpacked
-- ARGV[3] its messages, packed
--
-- Returns 1; 0 when it was taken or packed meanwhile.
-- @include _free
-- @include _account
local source, id = KEYS[1], ARGV[1]
local batch = source .. ':batch:' .. id
free_first()
-- What has a lower number was packed before, or taken; another drain may be further.
local number = tonumber(string.match(id, '^%d+'))
if number > tonumber(redis.call('HGET', source .. ':state', 'packed') or 0) then
  redis.call('HSET', source .. ':state', 'packed', number)
end
if not redis.call('ZSCORE', source .. ':ready', id)
    or redis.call('STRLEN', batch) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', batch, ARGV[3])
account(1, id, ARGV[2])
return 1
