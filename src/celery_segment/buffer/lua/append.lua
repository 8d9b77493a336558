-- Store messages in the open batch, sealing it whenever the next would not fit.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> largest size of an open batch, bytes, each message's comma included
-- ARGV[2] -> largest number of messages in a batch
-- ARGV[3] -> flush_at, messages
-- ARGV[4] -> flush_interval, milliseconds
-- ARGV[5] -> largest size of all unsettled batches, bytes; 0 for no limit
-- ARGV[6] -> one message or several, each followed by a comma
-- ARGV[7] -> sizes of several messages, two bytes each, little-endian; absent for one message
-- ARGV[8…] -> attachments of a message, three arguments each: position among these messages,
--            from 1; callbacks; trace context. '' for none. Of 2,600 messages at most: Lua
--            unpacks no more than 8,000 values
--
-- Returns 1 when the caller is to wake a worker, once per flush cycle
-- Returns 0 when the messages were stored and no worker is to be woken
-- Returns -1 when the buffer is full; nothing was stored
local source = KEYS[1]
local max_bytes, max_messages, flush_at = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local flush_interval, max_buffer_bytes = ARGV[4], ARGV[5]
local messages, sizes = ARGV[6], ARGV[7]
local attachments = sizes and ARGV[8] and {unpack(ARGV, 8)}

local open, state = source .. ':open', source .. ':state'
local message_count = sizes and #sizes / 2 or 1
if max_buffer_bytes ~= '0' then
  local stats = redis.call('HMGET', source .. ':stats',
    'ready_bytes', 'inflight_bytes', 'saved_bytes')
  local bytes = redis.call('STRLEN', open) + (stats[1] or 0) + (stats[2] or 0) - (stats[3] or 0)
  if bytes + #messages > tonumber(max_buffer_bytes) then
    return -1
  end
end
-- The state counts all of them as if they were in the open batch.
local count = redis.call('HINCRBY', state, 'count', message_count) - message_count
local size = count > 0 and redis.call('STRLEN', open) or 0
-- Most calls end here, before any function is created.
if not sizes and count > 0 and count < max_messages and count + 1 ~= flush_at
  and size + #messages <= max_bytes then
  redis.call('APPEND', open, messages)
  return 0
end

-- @include _now
-- @include _seal
local wake = 0
-- OpenTelemetry's default limit of links per span.
local MAX_TRACES = 128

local function starts_flush_cycle()
  local time = now()
  redis.call('HSET', state, 'since', time)
  local flushed = tonumber(redis.call('HGET', state, 'flushed') or 0)
  return time - flushed >= tonumber(flush_interval)
end

local callbacks, traces = {}, {}
for i = 1, attachments and #attachments or 0, 3 do
  local position, callback, trace = tonumber(attachments[i]), attachments[i + 1], attachments[i + 2]
  callbacks[position] = callback ~= '' and callback
  traces[position] = trace ~= '' and trace
end

local function attach(position)
  if callbacks[position] then
    redis.call('HSET', source .. ':callbacks', count, callbacks[position])
  end
  if traces[position] and count <= MAX_TRACES then
    redis.call('HSET', source .. ':traces', count, traces[position])
  end
end

-- Of the messages' bytes those from `from` to `to` belong to the open batch and are not
-- appended yet.
local from, to = 1, 0
for i = 1, message_count do
  local length = #messages
  if message_count > 1 then
    local low, high = string.byte(sizes, 2 * i - 1, 2 * i)
    length = low + 256 * high
  end
  if count > 0 and (count >= max_messages or size + length > max_bytes) then
    if to >= from then
      redis.call('APPEND', open, string.sub(messages, from, to))
    end
    redis.call('HSET', state, 'count', count)
    seal(source, now())
    redis.call('HINCRBY', state, 'count', message_count - i + 1)
    count, size, from, wake = 0, 0, to + 1, 1
  end
  count, size, to = count + 1, size + length, to + length
  if count == 1 and starts_flush_cycle() or count == flush_at then
    wake = 1
  end
  if attachments then
    attach(i)
  end
end
redis.call('APPEND', open, from == 1 and messages or string.sub(messages, from))
if wake == 0 or redis.call('HGET', state, 'woken') == '1' then
  return 0
end
redis.call('HSET', state, 'woken', 1)
return 1
