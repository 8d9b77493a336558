-- Return the latencies of a batch's messages, from the call to their delivery at `time`: how many
-- are in each bucket that has any, and their sum in milliseconds, as names and numbers in turn.
-- `bounds` are the upper bounds of the buckets but for the last one, which has none.
--
-- When each message was stored is not known: that would cost every call something. The first one
-- was stored at `since`, and the others are taken to have followed evenly until the batch was
-- sealed: of four, the second one after a quarter of this time.
local function latencies(count, since, sealed, time, bounds)
  local longest = math.max(time - since, 0)
  local spread = math.min(math.max(sealed - since, 0), longest)
  local found, bucket, before = {}, 1, 0

  local function note(up_to)
    if up_to > before then
      add(found, 'latency:' .. bucket, up_to - before)
    end
    bucket, before = bucket + 1, up_to
  end

  for text in string.gmatch(bounds, '%d+') do
    local beyond = longest - tonumber(text)
    note(beyond > 0 and count - math.min(math.ceil(beyond * count / spread), count) or count)
  end
  note(count)
  add(found, 'latency_sum', math.floor(count * longest - (count - 1) * spread / 2))
  return found
end
