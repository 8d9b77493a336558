-- List dead letters, the oldest first, a page at a time.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> buried at this time or later, milliseconds or -inf
-- ARGV[2] -> buried at this time or earlier, milliseconds or +inf; "(" in front excludes it
-- ARGV[3] -> id of the last letter of the previous page, buried at ARGV[1]; '' for the first page
-- ARGV[4] -> how many to return at most
--
-- A page starts after a time and an id, not after a number of letters: none is skipped when
-- others are replayed or purged in between.
--
-- Returns a flat list: id, messages, bytes, buried (milliseconds), reason of each letter
local source = KEYS[1]
local since, till, last, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- @include _add
local dead, letters = source .. ':dead', {}

-- Redis orders the ids of one time by their bytes; Lua's < depends on the locale.
local function is_after_last(id)
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
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead, since, since)) do
    if is_after_last(id) then
      break
    end
    offset = offset + 1
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead, since, till, 'LIMIT', offset, limit)) do
  -- Its record may be gone.
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'bytes', 'cause')
  local count, bytes = tonumber(fields[1] or 0), tonumber(fields[1] and fields[2] or 0)
  local buried = tonumber(redis.call('ZSCORE', dead, id))
  add(letters, id, count, bytes, buried, fields[3] or '')
end
return letters
