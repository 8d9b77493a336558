-- Replace a refused batch by its two halves, ready in its place.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token
-- ARGV[3] -> status of the response or kind of failure; '' when no request was made
-- ARGV[4] -> size of the first half, bytes, its last comma included
-- ARGV[5] -> messages in the first half
-- ARGV[6] -> 1 when the endpoint responded to what the batch holds, and so is not failing; else 0
-- ARGV[7] -> the batch's messages, where they are stored compressed; else absent
--
-- The halves of batch 7 are 7.1 and 7.2, and keep its place in the order.
--
-- Returns 1 when split
-- Returns -1 when the token is not the holder's; nothing was changed
-- Returns -2 when what is stored is not the batch's messages any more; nothing was changed
local source, id, token, status = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local first_bytes, first_count = tonumber(ARGV[4]), tonumber(ARGV[5])
local responded, messages = ARGV[6] == '1', ARGV[7]

-- @include _now
-- @include _add
-- @include _batch_number
-- @include _free_first
-- @include _held
-- @include _move
-- @include _count_saved
-- @include _reset_failures
-- @include _release_probe
-- @include _add_to_history
-- @include _count_attempt
-- A half was tried as its whole was.
local TRIED = {'since', 'sealed', 'began', 'attempts', 'requests', 'failed'}
local batch, meta = source .. ':batch:' .. id, source .. ':meta:' .. id
local count, bytes = held(source, id, token)
if not count then
  return -1
end
messages = messages or redis.call('GET', batch)
if not messages or #messages ~= bytes then
  return -2
end
free_first(source)
local tried = {}
for i, value in ipairs(redis.call('HMGET', meta, unpack(TRIED))) do
  if value then
    add(tried, TRIED[i], value)
  end
end

local function store(suffix, content, content_count)
  local half = id .. suffix
  redis.call('SET', source .. ':batch:' .. half, content)
  redis.call('ZADD', source .. ':batches', 0, half)
  redis.call('HSET', source .. ':meta:' .. half,
    'count', content_count, 'bytes', #content, unpack(tried))
  redis.call('ZADD', source .. ':ready', batch_number(id), half)
end

local function divide(attachments)
  local flat, first, second = redis.call('HGETALL', attachments), {}, {}
  redis.call('DEL', attachments)
  for i = 1, #flat, 2 do
    local position, content = tonumber(flat[i]), flat[i + 1]
    if position <= first_count then
      add(first, position, content)
    else
      add(second, position - first_count, content)
    end
  end
  if #first > 0 then
    redis.call('HSET', attachments .. '.1', unpack(first))
  end
  if #second > 0 then
    redis.call('HSET', attachments .. '.2', unpack(second))
  end
end

count_saved(source, id, -1)
redis.call('DEL', batch, meta)
redis.call('ZREM', source .. ':batches', id)
redis.call('ZREM', source .. ':inflight', id)
store('.1', string.sub(messages, 1, first_bytes), first_count)
store('.2', string.sub(messages, first_bytes + 1), count - first_count)
divide(source .. ':callbacks:' .. id)
divide(source .. ':traces:' .. id)
move(source, count, bytes, 'inflight', 'ready')
redis.call('HINCRBY', source .. ':stats', 'splits', 1)
count_attempt(source, status, now())
if responded then
  reset_failures(source)
else
  release_probe(source, id)
end
return 1
