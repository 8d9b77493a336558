-- Count messages that were deleted from a dead letter, which keeps others, out of its groups. `deleted`
-- has, for each kind of message, its digest and how many were deleted. Those of a kind that is not
-- among the letter's own are of its other messages, or else of any kind, so that the counts of a
-- letter are as many as its messages.
local function thin_groups(source, id, deleted)
  local grouped, meta = source .. ':grouped', source .. ':meta:' .. id
  local entries, unnamed, kept, kinds = {}, 0, {}, {}
  local pattern = '(%w+) (%d+) (%w+)'
  for kind, messages, group in string.gmatch(redis.call('HGET', meta, 'kinds') or '', pattern) do
    entries[#entries + 1] = {kind = kind, messages = tonumber(messages), group = group}
  end
  if #entries == 0 then
    return
  end

  local function take(entry, wanted)
    local taken = math.min(entry.messages, wanted)
    entry.messages = entry.messages - taken
    redis.call('ZADD', grouped, 'INCR', 0 - taken, entry.group)
    return wanted - taken
  end

  for i = 1, #deleted, 2 do
    local left = tonumber(deleted[i + 1])
    for _, entry in ipairs(entries) do
      if entry.kind == deleted[i] then
        left = take(entry, left)
      end
    end
    unnamed = unnamed + left
  end
  -- The other messages are the last.
  for i = #entries, 1, -1 do
    unnamed = take(entries[i], unnamed)
  end

  for _, entry in ipairs(entries) do
    if entry.messages > 0 then
      kept[entry.group] = true
      kinds[#kinds + 1] = entry.kind .. ' ' .. entry.messages .. ' ' .. entry.group
    end
  end
  for _, entry in ipairs(entries) do
    local letters = source .. ':dead:' .. entry.group
    if not kept[entry.group] then
      redis.call('ZREM', letters, id)
      if redis.call('EXISTS', letters) == 0 then
        redis.call('HDEL', source .. ':groups', entry.group)
        redis.call('ZREM', grouped, entry.group)
      end
    end
  end
  redis.call('HSET', meta, 'kinds', table.concat(kinds, ' '))
end
