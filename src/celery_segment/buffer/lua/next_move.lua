-- Set the next batch aside for its move to another source, and read it. No worker claims it from
-- then on. There is one at a time: until end_move deletes it, it is returned again. After the last
-- batch, the history and the source's totals are moved in the same way.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> number of the mover
-- ARGV[2] -> largest dead letter to move, bytes
--
-- Dead letters come last: a callback that has not run yet may need their messages. The titles of
-- a letter's groups are among its fields, for the other source.
--
-- Returns {number of the move, what is moved (ready, dead, history or totals), its content or '',
--         its fields, the messages' callbacks, their trace contexts}: the last three are flat lists.
--         The content of a period of the history is the time at which it began
-- Returns {0}: nothing can be moved at present
-- Returns {-1}: another mover has begun; nothing was changed
local source, mover, room = KEYS[1], ARGV[1], tonumber(ARGV[2])

-- @include _now
-- @include _free_first
-- @include _recount
-- @include _open_count
-- @include _add_to_history
-- @include _keep_for_tail
-- @include _next_number
-- @include _seal
-- @include _batch_size
-- @include _move
-- @include _count_lost
-- @include _is_empty
-- @include _leave_groups
local state, stats, totals = source .. ':state', source .. ':stats', source .. ':totals'
if redis.call('HGET', state, 'mover') ~= mover then
  return {-1}
end
free_first(source)

local function first_of(set)
  return redis.call('ZRANGE', source .. ':' .. set, 0, 0)[1]
end

local function set_aside(what, id)
  local number = redis.call('HINCRBY', state, 'moves', 1)
  redis.call('HSET', state, 'moving', number .. ' ' .. what .. ' ' .. id)
end

local function oldest_period()
  local present = math.floor(now() / PERIOD)
  for period = present - KEPT / PERIOD - 1, present do
    if redis.call('EXISTS', source .. ':history:' .. period) == 1 then
      return period
    end
  end
end

local function note_titles(id)
  local meta = source .. ':meta:' .. id
  for group in string.gmatch(redis.call('HGET', meta, 'kinds') or '', '%w+ %d+ (%w+)') do
    local title = redis.call('HGET', source .. ':groups', group)
    redis.call('HSET', meta, 'title:' .. group, title or '')
  end
end

local function add_violations()
  local kinds = redis.call('HGETALL', source .. ':violations')
  for i = 1, #kinds, 2 do
    redis.call('HSET', totals, 'violation:' .. kinds[i], kinds[i + 1])
  end
  redis.call('DEL', source .. ':violations')
end

local function find_next()
  local id = first_of('retrying')
  if id then
    redis.call('ZREM', source .. ':retrying', id)
    local count, bytes = batch_size(source, id, 'inflight')
    move(source, count, bytes, 'inflight', 'ready')
    return set_aside('ready', id)
  end
  if not first_of('ready') and open_count(source) > 0 then
    seal(source)
  end
  id = first_of('ready')
  if id then
    redis.call('ZREM', source .. ':ready', id)
    return set_aside('ready', id)
  end
  id = first_of('dead')
  if id and redis.call('EXISTS', source .. ':settled') == 0 then
    local _, bytes = batch_size(source, id, 'dead')
    if bytes <= room then
      note_titles(id)
      redis.call('ZREM', source .. ':dead', id)
      leave_groups(source, {id})
      return set_aside('dead', id)
    end
  end
  if is_empty(source) and redis.call('EXISTS', stats) == 1 then
    local period = oldest_period()
    if period then
      redis.call('RENAME', source .. ':history:' .. period, totals)
      return set_aside('history', period * PERIOD)
    end
    count_lost(source)
    redis.call('RENAME', stats, totals)
    add_violations()
    return set_aside('totals', '')
  end
end

if redis.call('HEXISTS', state, 'moving') == 0 then
  find_next()
end
local moving = redis.call('HGET', state, 'moving')
if not moving then
  return {0}
end
local number, what, id = string.match(moving, '^(%d+) (%a+) (%S*)$')
if what == 'totals' or what == 'history' then
  return {tonumber(number), what, id, redis.call('HGETALL', totals), {}, {}}
end
return {tonumber(number), what, redis.call('GET', source .. ':batch:' .. id) or '',
  redis.call('HGETALL', source .. ':meta:' .. id),
  redis.call('HGETALL', source .. ':callbacks:' .. id),
  redis.call('HGETALL', source .. ':traces:' .. id)}
