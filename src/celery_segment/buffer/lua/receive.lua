-- Store a batch, or add the totals or some history, of another source, once: a move that is repeated changes
-- nothing. A batch gets an id of its own, 0.000000001 and so on, which lets it be claimed before
-- this source's own batches, since its messages are older.
--
-- A move is recognized by its number and what it has: after a failover to a replica that was behind,
-- the other source numbers other batches as some that are stored here.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> the other source's name as an origin
-- ARGV[2] -> number of the mover
-- ARGV[3] -> number of the move
-- ARGV[4] -> largest share of its maxmemory that Redis may use; 1 for all of it
-- ARGV[5] -> what is moved: ready, dead, history or totals
-- ARGV[6] -> the batch's messages as they are stored; the time at which a period of the history
--            began, milliseconds; '' for none
-- ARGV[7] -> how many of the values that follow are fields
-- ARGV[8] -> how many of the next ones are of callbacks; the others are of trace contexts
-- ARGV[9] -> how many groups of dead letters are told apart
-- ARGV[10…] -> names and values in turn
--
-- Returns 1 when it was stored
-- Returns 0 when it was stored before
-- Returns -1: another mover has begun; nothing was changed
-- Returns -2: Redis uses more than its share; nothing was changed
local source, origin, mover, number = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local share, what, content = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local field_count, callback_count = tonumber(ARGV[7]), tonumber(ARGV[8])
local most_groups, values = tonumber(ARGV[9]), {unpack(ARGV, 10)}

-- @include _add
-- @include _free_first
-- @include _batch_number
-- @include _batch_size
-- @include _move
-- @include _count_saved
-- @include _memory
-- @include _add_to_history
-- @include _join_groups
-- @include _count_kind
local origins, state, stats = source .. ':origins', source .. ':state', source .. ':stats'
-- What of the other source's figures is a state, and not a total.
local STATES = {ready = true, ready_bytes = true, inflight = true, inflight_bytes = true,
  dead = true, dead_bytes = true, saved_bytes = true}

local last = redis.call('HGET', origins, origin) or '0 0 '
local last_mover, last_number, last_digest = string.match(last, '^(%d+) (%d+) (%x*)$')
if mover < tonumber(last_mover) then
  return -1
end
local digest = redis.sha1hex(what == 'totals' and table.concat(values) or what .. content)
local is_new = number > tonumber(last_number) or digest ~= last_digest
if is_new and share < 1 then
  local used, most = memory()
  if used and used > share * most then
    return -2
  end
end
free_first(source)
redis.call('HSET', origins, origin, mover .. ' ' .. number .. ' ' .. digest)
if not is_new then
  return 0
end

local function add_totals()
  for i = 1, field_count, 2 do
    local name, value = values[i], values[i + 1]
    if name == 'last_delivered' then
      local own = tonumber(redis.call('HGET', stats, name) or 0)
      redis.call('HSET', stats, name, math.max(own, tonumber(value)))
    elseif string.sub(name, 1, 10) == 'violation:' then
      count_kind(source, string.sub(name, 11), value)
    elseif not STATES[name] then
      redis.call('HINCRBY', stats, name, value)
    end
  end
end

local function bury(id)
  local meta, list = source .. ':meta:' .. id, {}
  local fields = redis.call('HMGET', meta, 'buried', 'kinds')
  local time = fields[1] or 0
  redis.call('ZADD', source .. ':dead', time, id)
  for kind, messages, group in string.gmatch(fields[2] or '', '(%w+) (%d+) (%w+)') do
    add(list, kind, messages, group, redis.call('HGET', meta, 'title:' .. group) or '')
  end
  for i = 3, #list, 4 do
    redis.call('HDEL', meta, 'title:' .. list[i])
  end
  join_groups(source, id, time, most_groups, list)
end

local function store_batch()
  local id = string.format('0.%09d', redis.call('HINCRBY', state, 'received', 1))
  local function keep(key, first, last_value)
    if first < last_value then
      redis.call('HSET', source .. key .. id, unpack(values, first, last_value))
    end
  end
  keep(':meta:', 1, field_count)
  keep(':callbacks:', field_count + 1, field_count + callback_count)
  keep(':traces:', field_count + callback_count + 1, #values)
  local count, bytes = batch_size(source, id, what)
  if content ~= '' then
    redis.call('SET', source .. ':batch:' .. id, content)
    redis.call('ZADD', source .. ':batches', 0, id)
  end
  if what == 'dead' then
    bury(id)
  else
    redis.call('ZADD', source .. ':ready', batch_number(id), id)
    if content ~= '' then
      count_saved(source, id, 1)
    end
  end
  redis.call('HINCRBY', stats, 'accepted', count)
  move(source, count, bytes, '', what)
end

if what == 'totals' then
  add_totals()
elseif what == 'history' then
  add_to_history(source, tonumber(content), unpack(values, 1, field_count))
else
  store_batch()
end
return 1
