-- An attempt failed: the batch stays in flight, without a holder, until its
-- retry begins. The gate closes as the endpoint or the breaker demands.
--
-- KEYS[1] the source's prefix
-- ARGV[1] batch id
-- ARGV[2] the holder's token
-- ARGV[3] the answer's status, as _attempted says
-- ARGV[4] what happened:
--           failure   counts as an attempt; enough of them in a row trip the breaker
--           asked     the endpoint asked for a wait (Retry-After); not counted
--           refused   the configuration is wrong; not counted, trips at once
-- ARGV[5] milliseconds until the retry, at the least
-- ARGV[6] lease, milliseconds
-- ARGV[7] failures in a row that trip the breaker
-- ARGV[8] the first pause of a tripped source, milliseconds; it doubles each time
-- ARGV[9] the longest pause, milliseconds
-- ARGV[10] the cause, for people
--
-- Returns {milliseconds until the retry, how often in a row such a one tripped the
-- breaker when this one did, else 0}, or {-1} for a stale holder.
-- @include _now
-- @include _free
-- @include _held
-- @include _attempted
local source, id, what = KEYS[1], ARGV[1], ARGV[4]
local gate, state, probe = source .. ':gate', source .. ':state', source .. ':probe'
local meta = held()
if not meta then
  return {-1}
end
free_first()
local wait = tonumber(ARGV[5])
local closed = math.max(redis.call('PTTL', gate), 0)
local fields = redis.call('HMGET', state, 'trips', 'refusals')
local failing = fields[1] or fields[2]
-- Each kind has pauses of its own: an endpoint that was down for long, and is then asked
-- with a wrong key, is asked again as soon as any.
local kind, before = 'trips', tonumber(fields[1] or 0)
if what == 'refused' then
  kind, before = 'refusals', tonumber(fields[2] or 0)
end
local tripped = 0

local function close_for(milliseconds)
  if milliseconds > closed then
    redis.call('SET', gate, what .. ' ' .. ARGV[10], 'PX', milliseconds)
    closed = milliseconds
  end
end

if what == 'asked' then
  close_for(wait)
else
  local failures = redis.call('HINCRBY', state, 'failures', 1)
  -- Batches that were under way when the gate closed say nothing new about it.
  if closed == 0 and (what == 'refused' or failing or failures >= tonumber(ARGV[7])) then
    tripped = redis.call('HINCRBY', state, kind, 1)
    close_for(math.min(ARGV[8] * 2 ^ math.min(before, 30), tonumber(ARGV[9])))
  end
end
if what == 'failure' then
  redis.call('HINCRBY', meta, 'attempts', 1)
end
if redis.call('GET', probe) == id then
  redis.call('DEL', probe)
end
wait = math.max(wait, closed)
redis.call('HDEL', meta, 'token')
redis.call('HSET', meta, 'cause', ARGV[10])
redis.call('ZADD', source .. ':inflight', now() + wait + ARGV[6], id)
redis.call('HINCRBY', source .. ':stats', 'retries', 1)
attempted()
return {wait, tripped}
