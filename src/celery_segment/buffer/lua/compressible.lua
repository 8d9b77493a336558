-- List the batches of a backlog that are not compressed yet, the oldest first.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> ready batches from which on they are a backlog
-- ARGV[2] -> how many of the youngest batches are left alone
-- ARGV[3] -> how many to return at most
--
-- Returns a list of batch ids
local source = KEYS[1]
local backlog, youngest, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- @include _compressible_range
local first, last = compressible_range(source, backlog, youngest)
if not first then
  return {}
end
return redis.call('ZRANGEBYSCORE', source .. ':ready', first, last, 'LIMIT', 0, limit)
