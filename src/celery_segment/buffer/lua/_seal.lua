-- Close the open batch: an exact-size copy under a new id, waiting in `ready`.
-- APPEND leaves up to twice the room a string needs; COPY takes just enough.
local function seal(time)
  local source = KEYS[1]
  local open, state, stats = source .. ':open', source .. ':state', source .. ':stats'
  local count = tonumber(redis.call('HGET', state, 'count'))
  local bytes = redis.call('STRLEN', open)
  local id = redis.call('HINCRBY', state, 'sequence', 1)
  redis.call('COPY', open, source .. ':batch:' .. id)
  redis.call('DEL', open)
  redis.call('HSET', source .. ':meta:' .. id, 'count', count, 'bytes', bytes,
    'since', redis.call('HGET', state, 'since'))
  for _, beside in ipairs({source .. ':callbacks', source .. ':traces'}) do
    if redis.call('EXISTS', beside) == 1 then
      redis.call('RENAME', beside, beside .. ':' .. id)
    end
  end
  redis.call('ZADD', source .. ':ready', id, id)
  redis.call('HSET', state, 'count', 0, 'woken', 0, 'flushed', time)
  redis.call('HINCRBY', stats, 'accepted', count)
  redis.call('HINCRBY', stats, 'ready', count)
  redis.call('HINCRBY', stats, 'ready_bytes', bytes)
end
