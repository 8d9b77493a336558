-- Delete what was kept of a settled batch, but for the callbacks that are to be called again.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> name of the settled batch: delivered:<id> or dead:<id>
-- ARGV[2] -> 1 when the source's own callback (on_delivered or on_failed) is to be called
--            again; else 0
-- ARGV[3…] -> the callbacks of messages that are to be called again
--
-- Returns 1 when all was deleted
-- Returns 0 when some is kept, or another has deleted it before
local source, name, hook_is_left = KEYS[1], ARGV[1], ARGV[2] == '1'
local left = {unpack(ARGV, 3)}

-- @include _forget_delivered
local settled = source .. ':settled:' .. name
if not hook_is_left then
  forget_delivered(source, name)
end
if not hook_is_left and #left == 0 then
  redis.call('DEL', settled)
  return redis.call('ZREM', source .. ':settled', name)
end
if redis.call('EXISTS', settled) == 0 then
  return 0
end
for _, field in ipairs(redis.call('HKEYS', settled)) do
  if tonumber(field) then
    redis.call('HDEL', settled, field)
  end
end
for place, callback in ipairs(left) do
  redis.call('HSET', settled, place, callback)
end
if not hook_is_left then
  redis.call('HSET', settled, 'reported', 1)
end
return 0
