-- Take a batch that is no dead letter any more out of its groups, while it has its record. A group
-- without letters is deleted, and with the last dead letter all that is stored of groups, so that
-- nothing is left of what an older process, or an eviction, has made wrong.
local function leave_groups(source, id)
  local groups, dead = source .. ':groups', source .. ':dead:'
  local fields = redis.call('HMGET', source .. ':meta:' .. id, 'kinds', 'count')
  local kinds, left = fields[1], 0

  local function leave(group, messages)
    left = left + redis.call('ZREM', dead .. group, id)
    redis.call('HINCRBY', groups, group .. ':messages', 0 - messages)
    if redis.call('EXISTS', dead .. group) == 0 then
      redis.call('HDEL', groups, group, group .. ':messages')
    end
  end

  for messages, group in string.gmatch(kinds or '', '%w+ (%d+) (%w+)') do
    leave(group, messages)
  end
  if not kinds and not fields[2] then
    -- Its record is lost. How many messages it had in which group is not known: those are counted
    -- there until the group's last letter leaves.
    for _, name in ipairs(redis.call('HKEYS', groups)) do
      if redis.call('ZSCORE', dead .. name, id) then
        leave(name, 0)
      end
    end
  end
  if redis.call('EXISTS', source .. ':dead') == 0 then
    for _, name in ipairs(redis.call('HKEYS', groups)) do
      redis.call('DEL', dead .. name)
    end
    redis.call('DEL', groups)
  elseif kinds or left > 0 then
    redis.call('HINCRBY', groups, 'letters', -1)
  end
end
