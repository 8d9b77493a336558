-- Move a batch's messages from one count of `stats` to another; '' is none.
-- (0 - count, since Lua writes -0 as "-0", which is no integer.)
local function move(source, count, bytes, from, to)
  local stats = source .. ':stats'
  if from ~= '' then
    redis.call('HINCRBY', stats, from, 0 - count)
    redis.call('HINCRBY', stats, from .. '_bytes', 0 - bytes)
  end
  if to ~= '' then
    redis.call('HINCRBY', stats, to, count)
    redis.call('HINCRBY', stats, to .. '_bytes', bytes)
  end
end
