-- Delete what was kept of a settled batch, but for the callbacks that are to be called again.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> name of the settled batch: delivered:<id> or dead:<id>
-- ARGV[2] -> token of the one who has called the callbacks
-- ARGV[3] -> 1 when the source's own callback (on_delivered or on_failed) is to be called
--            again; else 0
-- ARGV[4…] -> the callbacks of messages that are to be called again
--
-- Returns 1 when all was deleted
-- Returns 0 when some is kept
-- Returns -1 when the callbacks are another's by now, or gone; nothing was changed
local source, name, token, hook_is_left = KEYS[1], ARGV[1], ARGV[2], ARGV[3] == '1'
local left = {unpack(ARGV, 4)}

-- @include _forget_delivered
local settled = source .. ':settled:' .. name
if redis.call('HGET', settled, 'token') ~= token then
  return -1
end
if not hook_is_left then
  forget_delivered(source, name)
end
if not hook_is_left and #left == 0 then
  redis.call('DEL', settled)
  return redis.call('ZREM', source .. ':settled', name)
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
