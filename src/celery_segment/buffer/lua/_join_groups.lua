-- Put a dead letter that was given up at `time` into the groups of its messages, and note in its
-- record which these are. `list` has, for each kind of message in it: the kind's digest, how many
-- messages, the group's id and title; where it is empty, the letter is in no group. Beyond `most`
-- groups of a source there is one for all others.
local function join_groups(source, id, time, most, list)
  local groups, grouped, kinds = source .. ':groups', source .. ':grouped', {}
  if #list == 0 then
    return
  end
  for i = 1, #list, 4 do
    local kind, messages, group, title = unpack(list, i, i + 3)
    if redis.call('HEXISTS', groups, group) == 0 then
      if redis.call('ZCARD', grouped) >= most then
        group, title = 'others', ''
      end
      redis.call('HSET', groups, group, title)
    end
    redis.call('ZADD', grouped, 'INCR', messages, group)
    redis.call('ZADD', source .. ':dead:' .. group, time, id)
    kinds[#kinds + 1] = kind .. ' ' .. messages .. ' ' .. group
  end
  redis.call('HSET', source .. ':meta:' .. id, 'kinds', table.concat(kinds, ' '))
  redis.call('HINCRBY', groups, 'letters', 1)
end
