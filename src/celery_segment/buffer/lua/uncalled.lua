-- Take over the callbacks of settled batches whose worker has not called them in time.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> lease, milliseconds
-- ARGV[2] -> how many batches to take over at most
--
-- Returns a flat list: name, batch id, messages, bytes, cause or '', content or '', a list of
--         the messages' callbacks, of each batch
local source, lease, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _now
-- @include _add
-- @include _free_first
local settled, time, taken = source .. ':settled', now(), {}
free_first(source)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', settled, '-inf', time, 'LIMIT', 0, limit)) do
  redis.call('ZADD', settled, time + lease, name)
  local fields, callbacks = {}, {}
  local flat = redis.call('HGETALL', settled .. ':' .. name)
  for i = 1, #flat, 2 do
    if tonumber(flat[i]) then
      add(callbacks, flat[i + 1])
    else
      fields[flat[i]] = flat[i + 1]
    end
  end
  add(taken, name, fields.batch, tonumber(fields.count), tonumber(fields.bytes))
  add(taken, fields.cause or '', redis.call('GET', source .. ':batch:' .. fields.batch) or '')
  add(taken, callbacks)
end
return taken
