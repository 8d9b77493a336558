-- Give a batch up: it becomes a dead letter, kept until replayed or purged.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the holder's token
-- ARGV[3] the answer's status, as _attempted says
-- ARGV[4] the reason, for people
-- ARGV[5] 1 when the endpoint answered, and so is not failing; else 0
-- ARGV[6] how many bytes the dead letters may hold
-- ARGV[7] 1 when somebody is told of each batch; else 0
-- ARGV[8] lease, milliseconds: so long the holder is left to call what has to be called
-- ARGV[9] the reason without the endpoint's own words, for what is called
--
-- The messages' callbacks stay with the dead letter, too: a replay may deliver it yet.
-- Returns {1 when something has to be called, else 0, a list of the messages' callbacks}; {-1, {}}
-- for a stale holder, {-2, {}} when there is no room among the dead letters: nothing was
-- changed.
-- @include _now
-- @include _free
-- @include _held
-- @include _move
-- @include _account
-- @include _answered
-- @include _attempted
-- @include _owe
local source, id = KEYS[1], ARGV[1]
local meta, count, bytes = held()
if not meta then
  return {-1, {}}
end
local dead = tonumber(redis.call('HGET', source .. ':stats', 'dead_bytes') or 0)
if dead + bytes > tonumber(ARGV[6]) then
  return {-2, {}}
end
free_first()
local time = now()
if ARGV[5] == '1' then
  answered()
elseif redis.call('GET', source .. ':probe') == id then
  redis.call('DEL', source .. ':probe')
end
redis.call('ZREM', source .. ':inflight', id)
redis.call('HDEL', meta, 'token')
redis.call('HSET', meta, 'cause', ARGV[4], 'buried', time)
redis.call('ZADD', source .. ':dead', time, id)
move(count, bytes, 'inflight', 'dead')
account(-1, id, bytes)
redis.call('HINCRBY', source .. ':stats', 'buried', count)
attempted()
local callbacks = source .. ':callbacks:' .. id
if ARGV[7] == '1' or redis.call('EXISTS', callbacks) == 1 then
  return {1, owe('dead', count, bytes, callbacks, time + ARGV[8], ARGV[9])}
end
return {0, {}}
