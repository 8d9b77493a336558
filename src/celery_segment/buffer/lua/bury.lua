-- Give a batch up: it becomes a dead letter, kept until replayed or purged.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token
-- ARGV[3] -> status of the response or kind of failure; '' when no request was made
-- ARGV[4] -> the reason, for people
-- ARGV[5] -> 1 when the endpoint responded, and so is not failing; else 0
-- ARGV[6] -> largest size of all dead letters, bytes
-- ARGV[7] -> 1 when on_failed is called with each batch; else 0
-- ARGV[8] -> lease, milliseconds: for how long the callbacks are left to the holder
-- ARGV[9] -> the reason without the endpoint's own words, for the callbacks
-- ARGV[10] -> how many groups of dead letters are told apart
-- ARGV[11…] -> for each kind of message in it: the kind's digest, how many messages, id and title
--            of their group
--
-- The dead letter keeps its messages' callbacks: a replay may deliver it yet.
--
-- Returns {1, a list of the messages' callbacks}: the holder is to call them and on_failed
-- Returns {0, {}}: there is nothing to call
-- Returns {-1, {}}: the token is not the holder's; nothing was changed
-- Returns {-2, {}}: the dead letters are full; nothing was changed
local source, id, token, status = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local reason, responded, max_dead_bytes = ARGV[4], ARGV[5] == '1', tonumber(ARGV[6])
local notify, lease, cause = ARGV[7] == '1', tonumber(ARGV[8]), ARGV[9]
local most_groups, kinds = tonumber(ARGV[10]), {unpack(ARGV, 11)}

-- @include _now
-- @include _free_first
-- @include _held
-- @include _move
-- @include _count_saved
-- @include _reset_failures
-- @include _release_probe
-- @include _add_to_history
-- @include _count_attempt
-- @include _keep_callbacks
-- @include _join_groups
local meta, stats = source .. ':meta:' .. id, source .. ':stats'
local count, bytes = held(source, id, token)
if not count then
  return {-1, {}}
end
if (redis.call('HGET', stats, 'dead_bytes') or 0) + bytes > max_dead_bytes then
  return {-2, {}}
end
free_first(source)
local time = now()
if responded then
  reset_failures(source)
else
  release_probe(source, id)
end
redis.call('ZREM', source .. ':inflight', id)
redis.call('HDEL', meta, 'token')
redis.call('HSET', meta, 'cause', reason, 'buried', time)
redis.call('ZADD', source .. ':dead', time, id)
join_groups(source, id, time, most_groups, kinds)
move(source, count, bytes, 'inflight', 'dead')
count_saved(source, id, -1)
redis.call('HINCRBY', stats, 'buried', count)
add_to_history(source, time, 'buried', count)
count_attempt(source, status, time)
return keep_callbacks(source, 'dead', id, token, count, bytes, notify, time + lease, cause)
