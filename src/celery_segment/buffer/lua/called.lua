-- Delete what was kept of a settled batch: its callbacks have been called.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> name of the settled batch: delivered:<id> or dead:<id>
--
-- Returns 1 when deleted
-- Returns 0 when another has deleted it before
local source, name = KEYS[1], ARGV[1]

local settled = source .. ':settled:' .. name
local id = redis.call('HGET', settled, 'batch')
if string.sub(name, 1, 10) == 'delivered:' and id then
  redis.call('DEL', source .. ':batch:' .. id)
end
redis.call('DEL', settled)
return redis.call('ZREM', source .. ':settled', name)
