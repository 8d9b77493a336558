-- List dead letters in the order of their times, a page at a time.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> buried at this time or later, milliseconds or -inf
-- ARGV[2] -> buried at this time or earlier, milliseconds or +inf; "(" in front excludes it
-- ARGV[3] -> id of the last letter of the previous page, buried at ARGV[1], or at ARGV[2] where the
--            newest come first; '' for the first page
-- ARGV[4] -> how many to return at most
-- ARGV[5] -> id of a group, for its letters alone; '' for all
-- ARGV[6] -> 1 where the newest come first; else 0
--
-- A page starts after a time and an id, not after a number of letters: none is skipped when
-- others are replayed or purged in between.
--
-- Returns a flat list: id, messages, bytes, buried (milliseconds), reason, title of the group of most
--         of its messages, number of its other kinds (-1 where it has no groups) of each letter
local source = KEYS[1]
local since, till, last, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local group, newest = ARGV[5], ARGV[6] == '1'

-- @include _add
local dead, groups, letters, titles = source .. ':dead', source .. ':groups', {}, {}
local set = group == '' and dead or dead .. ':' .. group

-- Redis orders the ids of one time by their bytes; Lua's < depends on the locale.
local function is_above_last(id)
  for i = 1, math.min(#id, #last) do
    local a, b = string.byte(id, i), string.byte(last, i)
    if a ~= b then
      return a > b
    end
  end
  return #id > #last
end

local function range(first, final, ...)
  if newest then
    return redis.call('ZRANGE', set, final, first, 'BYSCORE', 'REV', ...)
  end
  return redis.call('ZRANGE', set, first, final, 'BYSCORE', ...)
end

local function title_of(name)
  titles[name] = titles[name] or redis.call('HGET', groups, name) or ''
  return titles[name]
end

local offset, time = 0, newest and till or since
if last ~= '' then
  for _, id in ipairs(range(time, time)) do
    if id ~= last and is_above_last(id) ~= newest then
      break
    end
    offset = offset + 1
  end
end
for _, id in ipairs(range(since, till, 'LIMIT', offset, limit)) do
  -- Its record may be gone.
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'bytes', 'cause', 'kinds')
  local count, bytes = tonumber(fields[1] or 0), tonumber(fields[1] and fields[2] or 0)
  local buried = tonumber(redis.call('ZSCORE', set, id))
  local first, more = '', -1
  for name in string.gmatch(fields[4] or '', '%w+ %d+ (%w+)') do
    first, more = more < 0 and title_of(name) or first, more + 1
  end
  add(letters, id, count, bytes, buried, fields[3] or '', first, more)
end
return letters
