-- List dead letters, the oldest first, a page at a time.
--
-- KEYS[1] the source's prefix
-- ARGV[1] buried at this time or later, milliseconds or -inf
-- ARGV[2] … and up to this time; "(" in front leaves it out
-- ARGV[3] the last id of the page before, buried at ARGV[1]; '' for the first page
-- ARGV[4] how many to return at the most
--
-- A page goes on behind a time and an id, not a number of letters: what is
-- replayed or purged meanwhile makes it pass none over.
-- Returns a flat list: id, messages, bytes, buried (milliseconds), reason of each.
local source, last, found = KEYS[1], ARGV[3], {}
local dead = source .. ':dead'

-- Redis orders the ids of one time by their bytes; Lua's < asks the locale.
local function is_behind(id)
  for i = 1, math.min(#id, #last) do
    local a, b = string.byte(id, i), string.byte(last, i)
    if a ~= b then
      return a > b
    end
  end
  return #id > #last
end

local offset = 0
if last ~= '' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead, ARGV[1], ARGV[1])) do
    if is_behind(id) then
      break
    end
    offset = offset + 1
  end
end
local ids = redis.call('ZRANGEBYSCORE', dead, ARGV[1], ARGV[2], 'LIMIT', offset, ARGV[4])
for _, id in ipairs(ids) do
  local fields = redis.call('HMGET', source .. ':meta:' .. id,
    'count', 'bytes', 'buried', 'cause')
  table.insert(found, id)
  table.insert(found, tonumber(fields[1]))
  table.insert(found, tonumber(fields[2]))
  table.insert(found, tonumber(fields[3]))
  table.insert(found, fields[4])
end
return found
