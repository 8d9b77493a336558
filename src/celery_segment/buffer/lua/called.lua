-- All that had to be called for a settled batch was called: forget it.
--
-- KEYS[1] the source's prefix
-- ARGV[1] its name in `settled`
--
-- Returns 1, or 0 when another has done so.
local source, name = KEYS[1], ARGV[1]
local settled = source .. ':settled:' .. name
local id = redis.call('HGET', settled, 'batch')
if string.sub(name, 1, 10) == 'delivered:' and id then
  redis.call('DEL', source .. ':batch:' .. id)
end
redis.call('DEL', settled)
return redis.call('ZREM', source .. ':settled', name)
