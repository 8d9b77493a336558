-- Find out whether a message was stored, after an append whose reply was lost.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> the message, followed by a comma
-- ARGV[2] -> how many of the last sealed batches to search
--
-- Returns 1 when the open batch or one of these contains it
-- Returns 0 when it was not stored, or is settled already
local source, message, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])

local function contains(key)
  return string.find(redis.call('GET', key) or '', message, 1, true)
end

if contains(source .. ':open') then
  return 1
end
local last = tonumber(redis.call('HGET', source .. ':state', 'sequence') or 0)
for id = last, math.max(last - limit, 0) + 1, -1 do
  if contains(source .. ':batch:' .. id) then
    return 1
  end
end
return 0
