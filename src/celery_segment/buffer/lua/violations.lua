-- Count messages that violated the source's tracking plan.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1…] -> in turn the rule, the kind ('' for others), and how many messages
--
-- Returns nothing
local source, counts = KEYS[1], ARGV

-- @include _free_first
-- @include _count_kind
free_first(source)
for i = 1, #counts, 3 do
  local rule, kind, number = counts[i], counts[i + 1], counts[i + 2]
  redis.call('HINCRBY', source .. ':stats', 'violations:' .. rule, number)
  count_kind(source, kind, number)
end
