-- A batch was refused: put its halves back in its place.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the holder's token
-- ARGV[3] the answer's status, as _attempted says
-- ARGV[4] bytes in the first half, its last comma included
-- ARGV[5] messages in the first half
-- ARGV[6…] the batch's messages, when they lie packed
--
-- The halves of batch 7 are 7.1 and 7.2: their order is their parent's.
-- Returns 1, or -1 for a stale holder.
-- @include _free
-- @include _held
-- @include _move
-- @include _account
-- @include _answered
-- @include _attempted
local source, id = KEYS[1], ARGV[1]
local meta, count, bytes = held()
if not meta then
  return -1
end
free_first()
local cut, first = tonumber(ARGV[4]), tonumber(ARGV[5])
local body = source .. ':batch:' .. id
local since = redis.call('HGET', meta, 'since')

local function half(suffix, content, messages)
  local child = id .. suffix
  redis.call('SET', source .. ':batch:' .. child, content)
  redis.call('HSET', source .. ':meta:' .. child,
    'count', messages, 'bytes', #content, 'since', since)
  redis.call('ZADD', source .. ':ready', string.match(id, '^%d+'), child)
end

-- What lies beside the messages goes where they go.
local function share(beside)
  local flat = redis.call('HGETALL', beside)
  redis.call('DEL', beside)
  for i = 1, #flat, 2 do
    local place = tonumber(flat[i])
    local suffix, offset = '.1', 0
    if place > first then
      suffix, offset = '.2', first
    end
    redis.call('HSET', beside .. suffix, place - offset, flat[i + 1])
  end
end

local content = ARGV[6] or redis.call('GET', body)
account(-1, id, bytes)
redis.call('DEL', body, meta)
redis.call('ZREM', source .. ':inflight', id)
half('.1', string.sub(content, 1, cut), first)
half('.2', string.sub(content, cut + 1), count - first)
share(source .. ':callbacks:' .. id)
share(source .. ':traces:' .. id)
move(count, bytes, 'inflight', 'ready')
redis.call('HINCRBY', source .. ':stats', 'splits', 1)
attempted()
answered()
return 1
