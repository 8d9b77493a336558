-- Move a batch's messages from one gauge of `stats` to another; '' is outside.
local function move(count, bytes, from, to)
  local stats = KEYS[1] .. ':stats'
  if from ~= '' then
    redis.call('HINCRBY', stats, from, -count)
    redis.call('HINCRBY', stats, from .. '_bytes', -bytes)
  end
  if to ~= '' then
    redis.call('HINCRBY', stats, to, count)
    redis.call('HINCRBY', stats, to .. '_bytes', bytes)
  end
end
