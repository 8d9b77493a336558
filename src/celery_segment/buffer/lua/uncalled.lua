-- Take over the callbacks of a settled batch whose worker has not called them in time.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> lease, milliseconds
-- ARGV[2] -> token of the one who takes them over
--
-- Returns {name, batch id, messages, bytes, cause or '', content or '', a list of the messages'
--         callbacks, 1 when on_delivered or on_failed has been called, else 0}
-- Returns {} when there is none
local source, lease, token = KEYS[1], tonumber(ARGV[1]), ARGV[2]

-- @include _now
-- @include _add
-- @include _free_first
-- @include _forget_delivered
local settled, time = source .. ':settled', now()
free_first(source)
local name, flat
repeat
  name = redis.call('ZRANGEBYSCORE', settled, '-inf', time, 'LIMIT', 0, 1)[1]
  if not name then
    return {}
  end
  flat = redis.call('HGETALL', settled .. ':' .. name)
  if #flat == 0 then
    -- What was kept of it is lost.
    redis.call('ZREM', settled, name)
    forget_delivered(source, name)
  end
until #flat > 0
redis.call('ZADD', settled, time + lease, name)
redis.call('HSET', settled .. ':' .. name, 'token', token)
local fields, callbacks = {}, {}
for i = 1, #flat, 2 do
  if tonumber(flat[i]) then
    add(callbacks, flat[i + 1])
  else
    fields[flat[i]] = flat[i + 1]
  end
end
return {name, fields.batch, tonumber(fields.count), tonumber(fields.bytes), fields.cause or '',
  redis.call('GET', source .. ':batch:' .. fields.batch) or '', callbacks,
  tonumber(fields.reported or 0)}
