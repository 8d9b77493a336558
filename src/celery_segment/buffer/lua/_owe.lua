-- A batch is settled: note what has to be called for it, for as long as nobody has.
-- `callbacks` is the key of its messages' own, which a dead letter keeps besides.
local function owe(how, count, bytes, callbacks, deadline, cause)
  local source, id = KEYS[1], ARGV[1]
  local name = how .. ':' .. id
  local settled = source .. ':settled:' .. name
  local own = {}
  if redis.call('EXISTS', callbacks) == 1 then
    own = redis.call('HVALS', callbacks)
    redis.call('COPY', callbacks, settled, 'REPLACE')
    if how == 'delivered' then
      redis.call('DEL', callbacks)
    end
  end
  redis.call('HSET', settled, 'batch', id, 'count', count, 'bytes', bytes)
  if cause then
    redis.call('HSET', settled, 'cause', cause)
  end
  redis.call('ZADD', source .. ':settled', deadline, name)
  return own
end
