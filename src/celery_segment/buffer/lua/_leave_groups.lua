-- Take batches that are no dead letters any more out of their groups, while they have their records. A
-- group without letters is deleted, and with the last dead letter all that is stored of groups, so
-- that nothing is left of what an older process, or an eviction, has made wrong.
local function leave_groups(source, ids)
  local groups, grouped, dead = source .. ':groups', source .. ':grouped', source .. ':dead:'
  local letters, messages, left = {}, {}, 0

  local function note(id, group, count)
    letters[group] = letters[group] or {}
    table.insert(letters[group], id)
    messages[group] = (messages[group] or 0) + count
  end

  for _, id in ipairs(ids) do
    local fields = redis.call('HMGET', source .. ':meta:' .. id, 'kinds', 'count')
    local is_grouped = fields[1]
    for count, group in string.gmatch(fields[1] or '', '%w+ (%d+) (%w+)') do
      note(id, group, count)
    end
    if not fields[1] and not fields[2] then
      -- Its record is lost. How many messages it had in which group is not known: those are
      -- counted there until the group's last letter leaves.
      for _, name in ipairs(redis.call('ZRANGE', grouped, 0, -1)) do
        if redis.call('ZSCORE', dead .. name, id) then
          is_grouped = true
          note(id, name, 0)
        end
      end
    end
    left = left + (is_grouped and 1 or 0)
  end

  for group, theirs in pairs(letters) do
    redis.call('ZREM', dead .. group, unpack(theirs))
    if redis.call('EXISTS', dead .. group) == 0 then
      redis.call('HDEL', groups, group)
      redis.call('ZREM', grouped, group)
    else
      redis.call('ZADD', grouped, 'INCR', 0 - messages[group], group)
    end
  end
  if redis.call('EXISTS', source .. ':dead') == 0 then
    for _, name in ipairs(redis.call('ZRANGE', grouped, 0, -1)) do
      redis.call('DEL', dead .. name)
    end
    redis.call('DEL', groups, grouped)
  elseif left > 0 then
    redis.call('HINCRBY', groups, 'letters', 0 - left)
  end
end
