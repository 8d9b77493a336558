-- List the batches that wait or are under way, and where they are: all that are under way, and a
-- page of the ready ones.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> number of the last ready batch of the previous page; -1 for the first page
-- ARGV[2] -> how many ready batches to list; more where further ones have the last one's number
--
-- A page has all batches between two numbers, wherever they are at this moment: none is missed
-- because it is claimed or put back between two pages.
--
-- Returns {number of the last ready batch, -1 when there are no more pages, place, id,
--         milliseconds for which it is left to its holder, …}: places are ready, retrying, inflight,
--         delivered (kept until on_delivered was called) and moving (to another source)
local source, after, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])

-- @include _now
-- @include _add
local ready, time, found = source .. ':ready', now(), {-1}

local function list(place, ids)
  for _, id in ipairs(ids) do
    add(found, place, id, 0)
  end
end

local page = redis.call('ZRANGEBYSCORE', ready, '(' .. after, '+inf', 'LIMIT', 0, limit)
list('ready', page)
if #page == limit then
  local last = tonumber(redis.call('ZSCORE', ready, page[limit]))
  found[1] = last
  list('ready', redis.call('ZRANGEBYSCORE', ready, last, last))
end
list('retrying', redis.call('ZRANGE', source .. ':retrying', 0, -1))

local function list_held(place, set, pattern)
  local flat = redis.call('ZRANGE', source .. set, 0, -1, 'WITHSCORES')
  for i = 1, #flat, 2 do
    local id = string.match(flat[i], pattern)
    if id then
      add(found, place, id, math.max(flat[i + 1] - time, 0))
    end
  end
end

list_held('inflight', ':inflight', '^(.+)$')
list_held('delivered', ':settled', '^delivered:(.+)$')
local moving = redis.call('HGET', source .. ':state', 'moving') or ''
list('moving', {string.match(moving, '^%d+ %a+ (%S+)$')})
return found
