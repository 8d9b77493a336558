-- Begin to move all that a source holds into another one, or go on after a mover that is gone:
-- from then on, an earlier mover is refused.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> a random name for this source as an origin, where it has none yet
--
-- Returns {the source's name as an origin, number of the mover}
-- Returns {}: nothing of the source is stored; nothing was changed
local source, name = KEYS[1], ARGV[1]

-- @include _free_first
local state = source .. ':state'
if redis.call('EXISTS', state, source .. ':stats') == 0 then
  return {}
end
free_first(source)
-- Not the source's own name: after the move, another source of that name may begin anew.
redis.call('HSETNX', state, 'origin', name)
return {redis.call('HGET', state, 'origin'), redis.call('HINCRBY', state, 'mover', 1)}
