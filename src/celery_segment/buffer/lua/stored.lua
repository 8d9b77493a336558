-- Was a message stored? Asked when an append's reply was lost.
--
-- KEYS[1] the source's prefix
-- ARGV[1] the message, with the comma behind it
-- ARGV[2] how many of the last sealed batches to look into
--
-- Returns 1 when it lies in the open batch or in one of these, else 0: it was not
-- stored, or is settled already.
local source = KEYS[1]
if string.find(redis.call('GET', source .. ':open') or '', ARGV[1], 1, true) then
  return 1
end
local last = tonumber(redis.call('HGET', source .. ':state', 'sequence') or 0)
for id = last, math.max(last - ARGV[2], 0) + 1, -1 do
  if string.find(redis.call('GET', source .. ':batch:' .. id) or '', ARGV[1], 1, true) then
    return 1
  end
end
return 0
