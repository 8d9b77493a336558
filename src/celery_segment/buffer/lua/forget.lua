-- Delete some messages of a batch that is ready, waits for a retry, or is a dead letter.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> size of what is stored of it, as it was read, bytes
-- ARGV[3] -> size of its messages before compression, as it was read, bytes
-- ARGV[4] -> what to store instead; '' when no message is left
-- ARGV[5] -> size of that before compression, bytes
-- ARGV[6] -> the cause, for the callbacks
-- ARGV[7…] -> places of the messages to delete, from 1 on, ascending
--
-- The callbacks of messages that were waiting are left to the next drain. Those of a dead letter
-- have been called when it was buried.
--
-- Returns 1 when they were deleted
-- Returns 0 when the batch is in none of these places; nothing was changed
-- Returns -1 when it is not as it was read; nothing was changed
local source, id, stored_size, read_bytes = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local content, left_bytes, cause = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local places = {unpack(ARGV, 7)}

-- @include _now
-- @include _add
-- @include _free_first
-- @include _move
-- @include _count_saved
-- @include _release_probe
local batch, meta = source .. ':batch:' .. id, source .. ':meta:' .. id
-- Each place, and where the figures count what is in it.
local FIGURES = {ready = 'ready', retrying = 'inflight', dead = 'dead'}

local function place_of()
  for place in pairs(FIGURES) do
    if redis.call('ZSCORE', source .. ':' .. place, id) then
      return place
    end
  end
end

local place = place_of()
if not place then
  return 0
end
local fields = redis.call('HMGET', meta, 'count', 'bytes')
-- Each deletion makes the messages fewer, and so their bytes; compression changes what is stored.
if fields[2] ~= read_bytes or redis.call('STRLEN', batch) ~= stored_size then
  return -1
end
free_first(source)
local bytes = read_bytes - left_bytes

local deleted, new_places, before = {}, {}, 0
for _, position in ipairs(places) do
  deleted[tonumber(position)] = true
end
for position = 1, tonumber(fields[1]) do
  new_places[position] = position - before
  before = before + (deleted[position] and 1 or 0)
end

-- Take out the attachments of the deleted messages, keep those of the others under their new
-- places, and return what was taken out: places and contents in turn.
local function cut(attachments)
  local flat, kept, out = redis.call('HGETALL', attachments), {}, {}
  for i = 1, #flat, 2 do
    local position = tonumber(flat[i])
    if deleted[position] then
      add(out, position, flat[i + 1])
    else
      add(kept, new_places[position], flat[i + 1])
    end
  end
  redis.call('DEL', attachments)
  if #kept > 0 then
    redis.call('HSET', attachments, unpack(kept))
  end
  return out
end

local callbacks = cut(source .. ':callbacks:' .. id)
cut(source .. ':traces:' .. id)
if #callbacks > 0 and place ~= 'dead' then
  local name = 'forgotten:' .. id .. ':' .. read_bytes
  redis.call('HSET', source .. ':settled:' .. name, 'batch', id, 'count', #places,
    'bytes', bytes, 'cause', cause, 'reported', 1, unpack(callbacks))
  redis.call('ZADD', source .. ':settled', now(), name)
end

if place ~= 'dead' then
  count_saved(source, id, -1)
end
if content == '' then
  redis.call('ZREM', source .. ':' .. place, id)
  redis.call('DEL', batch, meta)
  release_probe(source, id)
else
  redis.call('SET', batch, content)
  redis.call('HSET', meta, 'count', fields[1] - #places, 'bytes', left_bytes)
  redis.call('HDEL', meta, 'saved')
  if #content ~= left_bytes then
    redis.call('HSET', meta, 'saved', left_bytes - #content)
    if place ~= 'dead' then
      count_saved(source, id, 1)
    end
  end
end
move(source, #places, bytes, FIGURES[place], 'purged')
return 1
