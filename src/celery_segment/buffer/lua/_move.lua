-- Move a batch's messages from one count of `stats` to another; '' is none.
local function move(source, count, bytes, from, to)
  local stats = source .. ':stats'
  if from ~= '' then
    redis.call('HINCRBY', stats, from, -count)
    redis.call('HINCRBY', stats, from .. '_bytes', -bytes)
  end
  if to ~= '' then
    redis.call('HINCRBY', stats, to, count)
    redis.call('HINCRBY', stats, to .. '_bytes', bytes)
  end
end
