-- Store messages in the open batch, sealing it whenever the next would not fit.
--
-- KEYS[1]  the source's prefix
-- ARGV[1]  greatest size of an open batch, each message's comma included
-- ARGV[2]  greatest number of messages in a batch
-- ARGV[3]  flush_at
-- ARGV[4]  flush_interval, milliseconds
-- ARGV[5]  greatest size of all that waits, bytes; 0 for none
-- ARGV[6]  1, or 3 when each message is followed by its callbacks and the trace context of its
--          call, '' for none
-- ARGV[7…] messages, each ending with a comma
--
-- Returns 1 when the caller is to wake a worker, once per cycle; else 0; -1 when
-- there is no room: nothing was stored.
-- @include _now
-- @include _seal
local open, state = KEYS[1] .. ':open', KEYS[1] .. ':state'
local each, wake = tonumber(ARGV[6]), 0
-- As many links as OpenTelemetry gives a span, if it is not told otherwise.
local MOST_TRACES = 128

local function first_of_batch()
  local time = now()
  redis.call('HSET', state, 'since', time)
  local flushed = tonumber(redis.call('HGET', state, 'flushed') or 0)
  return time - flushed >= tonumber(ARGV[4])
end

if ARGV[5] ~= '0' then
  local waiting = redis.call('HMGET', KEYS[1] .. ':stats',
    'ready_bytes', 'inflight_bytes', 'saved_bytes')
  local bytes = redis.call('STRLEN', open) + (waiting[1] or 0) + (waiting[2] or 0)
    - (waiting[3] or 0)
  for i = 7, #ARGV, each do
    bytes = bytes + #ARGV[i]
  end
  if bytes > tonumber(ARGV[5]) then
    return -1
  end
end
for i = 7, #ARGV, each do
  local message = ARGV[i]
  local count = redis.call('HINCRBY', state, 'count', 1)
  if count > 1 and (count > tonumber(ARGV[2])
      or redis.call('STRLEN', open) + #message > tonumber(ARGV[1])) then
    redis.call('HINCRBY', state, 'count', -1)
    seal(now())
    count = redis.call('HINCRBY', state, 'count', 1)
    wake = 1
  end
  if count == 1 and first_of_batch() or count == tonumber(ARGV[3]) then
    wake = 1
  end
  redis.call('APPEND', open, message)
  if each == 3 and ARGV[i + 1] ~= '' then
    redis.call('HSET', KEYS[1] .. ':callbacks', count, ARGV[i + 1])
  end
  if each == 3 and ARGV[i + 2] ~= '' and count <= MOST_TRACES then
    redis.call('HSET', KEYS[1] .. ':traces', count, ARGV[i + 2])
  end
end
if wake == 0 or redis.call('HGET', state, 'woken') == '1' then
  return 0
end
redis.call('HSET', state, 'woken', 1)
return 1
