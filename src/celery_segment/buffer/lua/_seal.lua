-- Seal the open batch: an exact-size copy under a new id joins the ready batches.
-- APPEND leaves up to twice the room that a string needs; COPY takes just enough.
local function seal(source)
  local open, state, stats = source .. ':open', source .. ':state', source .. ':stats'
  local count, refusing = open_count(source)
  local bytes = redis.call('STRLEN', open)
  local id = next_number(source)
  redis.call('COPY', open, source .. ':batch:' .. id)
  redis.call('DEL', open)
  if not refusing then
    keep_for_tail(source, id)
  end
  redis.call('ZADD', source .. ':batches', 0, id)
  local time = now()
  redis.call('HSET', source .. ':meta:' .. id, 'count', count, 'bytes', bytes,
    'since', redis.call('HGET', state, 'since') or time, 'sealed', time)
  for _, attachments in ipairs({source .. ':callbacks', source .. ':traces'}) do
    if redis.call('EXISTS', attachments) == 1 then
      redis.call('RENAME', attachments, attachments .. ':' .. id)
    end
  end
  redis.call('ZADD', source .. ':ready', id, id)
  redis.call('DECRBY', source .. ':count', count)
  redis.call('HINCRBY', stats, 'accepted', count)
  redis.call('HINCRBY', stats, 'ready', count)
  redis.call('HINCRBY', stats, 'ready_bytes', bytes)
  add_to_history(source, time, 'accepted', count)
end
