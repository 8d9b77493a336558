-- Note when a worker was started that delivers some sources: what is stored of a source that is
-- not configured any more is then found without a look at all keys.
--
-- KEYS[1] -> {segment:}, the prefix of what all sources share
-- --
-- ARGV[1…] -> names of sources
--
-- Returns the time
local shared, names = KEYS[1], ARGV

-- @include _now
-- @include _free_first
local time = now()
free_first(shared)
for _, name in ipairs(names) do
  redis.call('HSET', shared .. ':sources', name, time)
end
return time
