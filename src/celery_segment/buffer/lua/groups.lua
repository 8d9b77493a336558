-- List the groups of the dead letters, those of the most messages first, a page at a time.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> how many groups to pass over
-- ARGV[2] -> how many to return at most
--
-- Returns {messages of all dead letters, how many letters are in no group, oldest and youngest of all
--         letters, list}: letters are in none where they were given up before there were groups;
--         the flat list has id, title, messages, letters, oldest and youngest of each group. Times
--         are milliseconds
local source, start, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _add
local dead, groups, list = source .. ':dead', source .. ':groups', {}

local function time_of(set, place)
  return tonumber(redis.call('ZRANGE', set, place, place, 'WITHSCORES')[2] or 0)
end

local page = redis.call('ZRANGE', source .. ':grouped', start, start + limit - 1, 'REV', 'WITHSCORES')
for i = 1, #page, 2 do
  local letters = dead .. ':' .. page[i]
  -- A hand may have deleted some of this.
  local title = redis.call('HGET', groups, page[i]) or ''
  add(list, page[i], title, math.max(tonumber(page[i + 1]), 0), redis.call('ZCARD', letters),
    time_of(letters, 0), time_of(letters, -1))
end
local grouped = math.max(tonumber(redis.call('HGET', groups, 'letters') or 0), 0)
return {tonumber(redis.call('HGET', source .. ':stats', 'dead') or 0),
  math.max(redis.call('ZCARD', dead) - grouped, 0), time_of(dead, 0), time_of(dead, -1), list}
