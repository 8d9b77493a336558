-- Store a message as a dead letter, without a delivery: it violates its source's tracking plan.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> the message, with a comma behind it
-- ARGV[2] -> the reason, for people
-- ARGV[3] -> largest size of all dead letters, bytes
-- ARGV[4] -> largest share of its maxmemory that Redis may use
-- ARGV[5] -> how many groups of dead letters are told apart
-- ARGV[6…] -> its kind's digest, 1, and id and title of its group
--
-- Returns 0 when it was stored
-- Returns -1 when the dead letters are full; nothing was stored
-- Returns -2 when Redis uses more than its share of maxmemory; nothing was stored
local source, message, reason, max_dead_bytes = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local max_share, most_groups, kinds = tonumber(ARGV[4]), tonumber(ARGV[5]), {unpack(ARGV, 6)}

-- @include _now
-- @include _free_first
-- @include _recount
-- @include _open_count
-- @include _memory
-- @include _keep_room
-- @include _move
-- @include _next_number
-- @include _add_to_history
-- @include _keep_for_tail
-- @include _seal
-- @include _join_groups
local stats, bytes = source .. ':stats', #message
if (redis.call('HGET', stats, 'dead_bytes') or 0) + bytes > max_dead_bytes then
  return -1
end
if keep_room(source, max_share) then
  return -2
end
-- Who follows the source expects no batch between the open one and the last.
if redis.call('EXISTS', source .. ':tail') == 1 and open_count(source) > 0 then
  seal(source)
end
local time, id = now(), next_number(source)
redis.call('SET', source .. ':batch:' .. id, message)
keep_for_tail(source, id)
redis.call('ZADD', source .. ':batches', 0, id)
redis.call('HSET', source .. ':meta:' .. id, 'count', 1, 'bytes', bytes, 'since', time,
  'sealed', time, 'cause', reason, 'buried', time)
redis.call('ZADD', source .. ':dead', time, id)
join_groups(source, id, time, most_groups, kinds)
move(source, 1, bytes, '', 'dead')
redis.call('HINCRBY', stats, 'accepted', 1)
redis.call('HINCRBY', stats, 'buried', 1)
add_to_history(source, time, 'accepted', 1, 'buried', 1)
return 0
