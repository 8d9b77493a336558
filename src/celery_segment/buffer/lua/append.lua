-- Store messages in the open batch, sealing it whenever the next would not fit.
--
-- KEYS[1]  the source's prefix
-- ARGV[1]  greatest size of an open batch, each message's comma included
-- ARGV[2]  greatest number of messages in a batch
-- ARGV[3]  flush_at
-- ARGV[4]  flush_interval, milliseconds
-- ARGV[5]  greatest size of all that waits, bytes; 0 for none
-- ARGV[6]  one message or several, each with a comma behind it
-- ARGV[7]  of several, the size of each: two bytes, the low one first
-- ARGV[8…] what is kept beside a message, in threes: its place among these, from 1; its
--          callbacks and the trace context of its call, '' for none
--
-- Returns 1 when the caller is to wake a worker, once per cycle; else 0; -1 when
-- there is no room: nothing was stored.
local open, state = KEYS[1] .. ':open', KEYS[1] .. ':state'
local most_bytes, most, flush_at = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local messages, sizes = ARGV[6], ARGV[7]
local number = sizes and #sizes / 2 or 1

if ARGV[5] ~= '0' then
  local waiting = redis.call('HMGET', KEYS[1] .. ':stats',
    'ready_bytes', 'inflight_bytes', 'saved_bytes')
  local bytes = redis.call('STRLEN', open) + (waiting[1] or 0) + (waiting[2] or 0)
    - (waiting[3] or 0)
  if bytes + #messages > tonumber(ARGV[5]) then
    return -1
  end
end
-- The state counts all of them as if they were in the open batch.
local count = redis.call('HINCRBY', state, 'count', number) - number
local size = count > 0 and redis.call('STRLEN', open) or 0
-- Most calls end here, before there is a function.
if not sizes and count > 0 and count < most and count + 1 ~= flush_at
  and size + #messages <= most_bytes then
  redis.call('APPEND', open, messages)
  return 0
end

-- @include _now
-- @include _seal
local wake = 0
-- As many links as OpenTelemetry gives a span, if it is not told otherwise.
local MOST_TRACES = 128

local function first_of_batch()
  local time = now()
  redis.call('HSET', state, 'since', time)
  local flushed = tonumber(redis.call('HGET', state, 'flushed') or 0)
  return time - flushed >= tonumber(ARGV[4])
end

local beside
for i = 8, #ARGV, 3 do
  beside = beside or {}
  beside[tonumber(ARGV[i])] = {callbacks = ARGV[i + 1], trace = ARGV[i + 2]}
end
-- Of the messages' bytes those from `from` to `to` belong to the open batch and are not
-- appended yet.
local from, to = 1, 0
for i = 1, number do
  local length = #messages
  if number > 1 then
    local low, high = string.byte(sizes, 2 * i - 1, 2 * i)
    length = low + 256 * high
  end
  if count > 0 and (count >= most or size + length > most_bytes) then
    if to >= from then
      redis.call('APPEND', open, string.sub(messages, from, to))
    end
    redis.call('HSET', state, 'count', count)
    seal(now())
    redis.call('HINCRBY', state, 'count', number - i + 1)
    count, size, from, wake = 0, 0, to + 1, 1
  end
  count, size, to = count + 1, size + length, to + length
  if count == 1 and first_of_batch() or count == flush_at then
    wake = 1
  end
  local own = beside and beside[i]
  if own and own.callbacks ~= '' then
    redis.call('HSET', KEYS[1] .. ':callbacks', count, own.callbacks)
  end
  if own and own.trace ~= '' and count <= MOST_TRACES then
    redis.call('HSET', KEYS[1] .. ':traces', count, own.trace)
  end
end
redis.call('APPEND', open, from == 1 and messages or string.sub(messages, from))
if wake == 0 or redis.call('HGET', state, 'woken') == '1' then
  return 0
end
redis.call('HSET', state, 'woken', 1)
return 1
