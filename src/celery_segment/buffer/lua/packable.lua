-- Which batches of a backlog lie unpacked.
--
-- KEYS[1] the source's prefix
-- ARGV[1] from so many ready batches on there is a backlog
-- ARGV[2] how many of the youngest batches are left alone
-- ARGV[3] how many to return at the most
--
-- Returns their ids, the oldest first.
-- @include _packable
local from, to = packable(ARGV[1], ARGV[2])
if not from then
  return {}
end
return redis.call('ZRANGEBYSCORE', KEYS[1] .. ':ready', from, to, 'LIMIT', 0, ARGV[3])
