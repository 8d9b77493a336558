-- Schedule a batch's next attempt after a failed one. While it waits, it takes no other batch's
-- place in flight.
-- The source is closed to deliveries for as long as the endpoint or the breaker demands.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
-- ARGV[2] -> the holder's token
-- ARGV[3] -> status of the response or kind of failure; '' when no request was made
-- ARGV[4] -> what happened:
--            failure: counted as an attempt; enough of them in a row trip the breaker
--            own: counted as an attempt, and not held against the endpoint, since others of its
--            batches were delivered meanwhile
--            doubtful: not counted, and not held against the endpoint either: the worker's write key
--            was refused, which may be the key's fault or the batch's
--            asked: the endpoint asked for a wait (Retry-After); not counted
--            refused: the configuration seems wrong; not counted, trips the breaker at once. The
--            pauses grow only when different batches are refused
-- ARGV[5] -> shortest wait until the retry, milliseconds
-- ARGV[6] -> how long the request took, milliseconds
-- ARGV[7] -> failures in a row that trip the breaker
-- ARGV[8] -> the breaker's first pause, milliseconds; doubled each time that it trips in a row
-- ARGV[9] -> the breaker's longest pause, milliseconds
-- ARGV[10] -> the cause, for people
--
-- Returns {wait until the retry in milliseconds, how many times in a row the breaker has
--         tripped for this kind of failure when it tripped now, else 0}
-- Returns {-1}: the token is not the holder's; nothing was changed
local source, id, token, status, what = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local wait, duration, threshold = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local first_pause, longest_pause, cause = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]

-- @include _now
-- @include _free_first
-- @include _held
-- @include _is_failing
-- @include _release_probe
-- @include _add_to_history
-- @include _count_attempt
-- @include _halve
local gate, state, meta = source .. ':gate', source .. ':state', source .. ':meta:' .. id
if not held(source, id, token) then
  return {-1}
end
free_first(source)
local closed = math.max(redis.call('PTTL', gate), 0)
local tripped, time = 0, now()

local function close_for(milliseconds)
  if milliseconds > closed then
    redis.call('SET', gate, what .. ' ' .. cause, 'PX', milliseconds)
    closed = milliseconds
  end
end

if what == 'asked' then
  close_for(wait)
  -- A longer pause of the breaker may end by resume, but the endpoint's wait does not.
  if time + wait >= tonumber(redis.call('HGET', state, 'asked') or 0) then
    redis.call('HSET', state, 'asked', time + wait, 'asked_cause', cause)
  end
elseif what ~= 'own' and what ~= 'doubtful' then
  local failures = redis.call('HINCRBY', state, 'failures', 1)
  -- While the source is closed, a failure is of a batch that was under way before.
  if closed == 0 and (what == 'refused' or failures >= threshold or is_failing(source)) then
    -- Each kind doubles its own pauses: when an endpoint that was down for long comes back
    -- and refuses the write key, the pauses start from the first again.
    local kind = what == 'refused' and 'refusals' or 'trips'
    local same = what == 'refused' and redis.call('HGET', state, 'refused') == id
    tripped = redis.call('HINCRBY', state, kind, same and 0 or 1)
    close_for(math.min(first_pause * 2 ^ math.min(tripped - 1, 30), longest_pause))
    redis.call('HSET', state, 'tripped_cause', cause)
    if what == 'refused' then
      redis.call('HSET', state, 'refused', id)
    end
  end
end
if what == 'failure' or what == 'own' then
  redis.call('HINCRBY', meta, 'attempts', 1)
end
if what == 'refused' or what == 'doubtful' then
  redis.call('HINCRBY', meta, 'refusals', 1)
elseif what ~= 'own' then
  halve(source, time, duration)
end
redis.call('HSETNX', meta, 'failed', time)
release_probe(source, id)
wait = math.max(wait, closed)
redis.call('HDEL', meta, 'token')
redis.call('HSET', meta, 'cause', cause)
redis.call('ZREM', source .. ':inflight', id)
redis.call('ZADD', source .. ':retrying', time + wait, id)
redis.call('HINCRBY', source .. ':stats', 'retries', 1)
count_attempt(source, status, time)
return {wait, tripped}
