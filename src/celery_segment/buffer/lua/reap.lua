-- Take batches back from workers that are gone, at the beginning of a drain: those whose lease
-- has expired, whose holders become stale, and those whose retry is overdue.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> milliseconds from which on a retry is overdue: its task message was lost
-- ARGV[2] -> how many batches to take back at most
--
-- Returns {number of batches that are ready again, number of settled batches whose callbacks
--         are to be taken over}
local source, overdue, limit = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- @include _now
-- @include _batch_number
-- @include _batch_size
-- @include _free_first
-- @include _move
-- @include _put_back
-- @include _count_lost
local time, taken = now(), 0
free_first(source)
redis.call('HDEL', source .. ':state', 'unanswered')
local function take_back(from, before)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', from, '-inf', before, 'LIMIT', 0, limit)) do
    put_back(source, id, from)
    taken = taken + 1
  end
end

take_back(source .. ':inflight', time)
take_back(source .. ':retrying', time - overdue)
count_lost(source)
if taken > 0 then
  redis.call('HINCRBY', source .. ':stats', 'takeovers', taken)
end
return {taken, redis.call('ZCOUNT', source .. ':settled', '-inf', time)}
