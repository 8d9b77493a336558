-- Take settled batches over whose worker has not called what it had to, in its time.
--
-- KEYS[1] the source's prefix
-- ARGV[1] lease, milliseconds
-- ARGV[2] how many at the most
--
-- Returns a flat list: name, batch id, messages, bytes, cause or '', content or '', a
-- list of the messages' callbacks, for each.
-- @include _now
-- @include _free
local source = KEYS[1]
local settled, time, taken = source .. ':settled', now(), {}
free_first()
for _, name in ipairs(redis.call('ZRANGEBYSCORE', settled, '-inf', time, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', settled, time + ARGV[1], name)
  local fields, callbacks = {}, {}
  local flat = redis.call('HGETALL', settled .. ':' .. name)
  for i = 1, #flat, 2 do
    if tonumber(flat[i]) then
      table.insert(callbacks, flat[i + 1])
    else
      fields[flat[i]] = flat[i + 1]
    end
  end
  table.insert(taken, name)
  table.insert(taken, fields.batch)
  table.insert(taken, tonumber(fields.count))
  table.insert(taken, tonumber(fields.bytes))
  table.insert(taken, fields.cause or '')
  table.insert(taken, redis.call('GET', source .. ':batch:' .. fields.batch) or '')
  table.insert(taken, callbacks)
end
return taken
