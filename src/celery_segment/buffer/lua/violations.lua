-- Count messages that violated the source's tracking plan.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1…] -> in turn the rule, the kind ('' for others), and how many messages
local source = KEYS[1]

-- @include _free_first
-- @include _count_kind
free_first(source)
for i = 1, #ARGV, 3 do
  redis.call('HINCRBY', source .. ':stats', 'violations:' .. ARGV[i], ARGV[i + 2])
  count_kind(source, ARGV[i + 1], ARGV[i + 2])
end
