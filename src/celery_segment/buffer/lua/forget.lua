-- Delete some messages of a batch that is ready, waits for a retry, or is a dead letter.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> SHA-1 of what is stored of it, as it was read, in hexadecimal digits
-- ARGV[3] -> size of its messages before compression, as it was read, bytes
-- ARGV[4] -> what to store instead; '' when no message is left
-- ARGV[5] -> size of that before compression, bytes
-- ARGV[6] -> the cause, for the callbacks
-- ARGV[7] -> places of the messages to delete, from 1 on, ascending: two bytes each,
--            little-endian
-- ARGV[8…] -> digest of each kind of message among those, and how many are of it, in turn
--
-- The callbacks of messages that were waiting are left to the next drain. Those of a dead letter
-- have been called when it was buried.
--
-- Returns where it is, when they were deleted: ready, retrying or dead
-- Returns '' when it is elsewhere, or not as it was read, such as another batch that was given its id
--         after a failover to a replica that was behind; nothing was changed
local source, id, digest, read_bytes = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local content, left_bytes, cause, places = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local kinds = {unpack(ARGV, 8)}

-- @include _now
-- @include _free_first
-- @include _move
-- @include _count_saved
-- @include _release_probe
-- @include _leave_groups
-- @include _thin_groups
local batch, meta = source .. ':batch:' .. id, source .. ':meta:' .. id
-- Where the figures count what is in a place.
local FIGURES = {ready = 'ready', retrying = 'inflight', dead = 'dead'}

local function place_of()
  for place in pairs(FIGURES) do
    if redis.call('ZSCORE', source .. ':' .. place, id) then
      return place
    end
  end
end

local place, fields = place_of(), redis.call('HMGET', meta, 'count', 'bytes')
-- Each deletion makes the messages fewer, and so their bytes; compression changes what is stored.
if not place or fields[2] ~= read_bytes
    or redis.sha1hex(redis.call('GET', batch) or '') ~= digest then
  return ''
end
free_first(source)
local bytes, count, deleted = read_bytes - left_bytes, tonumber(fields[1]), #places / 2

-- Return the new places of the messages that are left, by their old ones.
local function new_places()
  local found, is_deleted, before = {}, {}, 0
  for i = 1, #places, 2 do
    local low, high = string.byte(places, i, i + 1)
    is_deleted[low + 256 * high] = true
  end
  for position = 1, count do
    if is_deleted[position] then
      before = before + 1
    else
      found[position] = position - before
    end
  end
  return found
end

-- Take out the attachments of the deleted messages, keep those of the others under their new
-- places, and return what was taken out: places and contents in turn.
local function cut(attachments, new_place)
  local flat, kept, out = redis.call('HGETALL', attachments), {}, {}
  for i = 1, #flat, 2 do
    local position = new_place[tonumber(flat[i])]
    local list = position and kept or out
    list[#list + 1] = position or flat[i]
    list[#list + 1] = flat[i + 1]
  end
  redis.call('DEL', attachments)
  if #kept > 0 then
    redis.call('HSET', attachments, unpack(kept))
  end
  return out
end

local callbacks, traces, taken = source .. ':callbacks:' .. id, source .. ':traces:' .. id, {}
if redis.call('EXISTS', callbacks, traces) > 0 then
  local new_place = new_places()
  taken = cut(callbacks, new_place)
  cut(traces, new_place)
end
if #taken > 0 and place ~= 'dead' then
  local name = 'forgotten:' .. id .. ':' .. read_bytes
  redis.call('HSET', source .. ':settled:' .. name, 'batch', id, 'count', deleted,
    'bytes', bytes, 'cause', cause, 'reported', 1, unpack(taken))
  redis.call('ZADD', source .. ':settled', now(), name)
end

if place ~= 'dead' then
  count_saved(source, id, -1)
end
if content == '' then
  redis.call('ZREM', source .. ':' .. place, id)
  redis.call('ZREM', source .. ':batches', id)
  if place == 'dead' then
    leave_groups(source, {id})
  end
  redis.call('DEL', batch, meta)
  release_probe(source, id)
else
  if place == 'dead' then
    thin_groups(source, id, kinds)
  end
  redis.call('SET', batch, content)
  redis.call('HSET', meta, 'count', count - deleted, 'bytes', left_bytes)
  redis.call('HDEL', meta, 'saved')
  if #content ~= left_bytes then
    redis.call('HSET', meta, 'saved', left_bytes - #content)
    if place ~= 'dead' then
      count_saved(source, id, 1)
    end
  end
end
move(source, deleted, bytes, FIGURES[place], 'purged')
return place
