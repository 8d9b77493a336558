-- Store messages in the open batch, sealing it whenever the next would not fit.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> one message or several, each followed by a comma
-- ARGV[2] -> sizes of several messages, two bytes each, little-endian; '' for one message
-- ARGV[3] -> largest size of an open batch, bytes, each message's comma included
-- ARGV[4] -> largest number of messages in a batch
-- ARGV[5] -> largest size of all unsettled batches, bytes; 0 for no limit
-- ARGV[6] -> largest share of its maxmemory that Redis may use
-- ARGV[7…] -> attachments of a message, three arguments each: position among these messages,
--            from 1; callbacks; trace context. '' for none. Of 2,600 messages at most: Lua
--            unpacks no more than 8,000 values
--
-- All but the message may be left out: it is one, and the limits are the default ones.
--
-- Returns 0 when the messages were stored
-- Returns -1 when the unsettled batches have reached their largest size; nothing was stored
-- Returns -2 when Redis uses more than its share of maxmemory; nothing was stored
local source, messages, sizes, max_bytes = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local max_messages, max_buffer_bytes, max_share = ARGV[4], ARGV[5], ARGV[6]
local attachments = ARGV[7] and {unpack(ARGV, 7)}

local open = source .. ':open'
-- The default limits.
local MAX_BYTES, MAX_MESSAGES, MAX_SHARE = 458736, 2500, 0.75
-- Most calls end here, before anything else is read or any function is created: each 0.1 µs
-- counts.
if not sizes then
  local count = redis.call('INCR', source .. ':count')
  if count > 1 and count <= MAX_MESSAGES then
    if redis.call('APPEND', open, messages) <= MAX_BYTES then
      return 0
    end
    redis.call('SET', open, redis.call('GETRANGE', open, 0, -#messages - 1))
  end
  redis.call('DECR', source .. ':count')
end
max_bytes, max_messages = tonumber(max_bytes or MAX_BYTES), tonumber(max_messages or MAX_MESSAGES)
max_buffer_bytes, max_share = tonumber(max_buffer_bytes or 0), tonumber(max_share or MAX_SHARE)
sizes, attachments = sizes or '', attachments or {}

-- @include _now
-- @include _add
-- @include _free_first
-- @include _recount
-- @include _open_count
-- @include _memory
-- @include _keep_room
-- @include _add_to_history
-- @include _keep_for_tail
-- @include _next_number
-- @include _seal
-- Milliseconds between two looks at the memory by calls that are refused.
local LOOK_AGAIN = 1000
-- OpenTelemetry's default limit of links per span.
local MAX_TRACES = 128
-- Callbacks of a batch, so that no transition of it takes longer than a millisecond or two.
local MAX_CALLBACKS = 250
local state = source .. ':state'
local count, refusing = open_count(source)
local size = redis.call('STRLEN', open)
if count == 0 and size > 0 then
  count = recount(source)
end

if max_buffer_bytes > 0 then
  local stats = redis.call('HMGET', source .. ':stats',
    'ready_bytes', 'inflight_bytes', 'saved_bytes')
  local bytes = size + (stats[1] or 0) + (stats[2] or 0) - (stats[3] or 0)
  if bytes + #messages > max_buffer_bytes then
    return -1
  end
end
if refusing and (not redis.call('SET', source .. ':looked', 1, 'NX', 'PX', LOOK_AGAIN)
    or keep_room(source, max_share)) then
  return -2
end

local callbacks, traces = {}, {}
local kept = #attachments > 0 and redis.call('HLEN', source .. ':callbacks') or 0
for i = 1, #attachments, 3 do
  local position, callback, trace = tonumber(attachments[i]), attachments[i + 1], attachments[i + 2]
  callbacks[position] = callback ~= '' and callback
  traces[position] = trace ~= '' and trace
end

-- What is attached to the pending messages, as places and contents in turn.
local own_callbacks, own_traces = {}, {}

local function attach(position)
  if callbacks[position] then
    add(own_callbacks, count, callbacks[position])
    kept = kept + 1
  end
  if traces[position] and count <= MAX_TRACES then
    add(own_traces, count, traces[position])
  end
end

-- Of the messages, `pending` belong to the open batch and are not stored there yet: their
-- bytes from `from` to `to`.
local from, to, pending, sealed = 1, 0, 0, false

local function store_pending()
  if pending > 0 then
    redis.call('APPEND', open, string.sub(messages, from, to))
    redis.call('INCRBY', source .. ':count', pending)
  end
  from, pending = to + 1, 0
  if #own_callbacks > 0 then
    redis.call('HSET', source .. ':callbacks', unpack(own_callbacks))
  end
  if #own_traces > 0 then
    redis.call('HSET', source .. ':traces', unpack(own_traces))
  end
  own_callbacks, own_traces = {}, {}
end

for i = 1, sizes == '' and 1 or #sizes / 2 do
  local length = #messages
  if sizes ~= '' then
    local low, high = string.byte(sizes, 2 * i - 1, 2 * i)
    length = low + 256 * high
  end
  if count > 0 and (count >= max_messages or size + length > max_bytes
      or callbacks[i] and kept >= MAX_CALLBACKS) then
    store_pending()
    seal(source)
    count, size, kept, sealed = 0, 0, 0, true
  end
  if count == 0 then
    redis.call('HSET', state, 'since', now())
  end
  count, size, to, pending = count + 1, size + length, to + length, pending + 1
  attach(i)
end
store_pending()
if sealed then
  keep_room(source, max_share)
end
return 0
