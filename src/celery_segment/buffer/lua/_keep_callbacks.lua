-- Keep a settled batch's callbacks until they have been called: those of its messages and,
-- when `notify` is true, the source's own (on_delivered or on_failed). `outcome` is
-- 'delivered' or 'dead'; a dead letter keeps its messages' callbacks for a replay, too.
-- Until `deadline` no other worker takes them over. `token` tells whose they are: after a failover to
-- a replica that was behind, there may be another batch of the same id.
--
-- Returns the reply of a transition that settles: {1, a list of the messages' callbacks},
-- or {0, {}} when there is nothing to call.
local function keep_callbacks(source, outcome, id, token, count, bytes, notify, deadline, cause)
  local callbacks = source .. ':callbacks:' .. id
  local name = outcome .. ':' .. id
  local settled = source .. ':settled:' .. name
  local pending = {}
  if redis.call('EXISTS', callbacks) == 1 then
    pending = redis.call('HVALS', callbacks)
    if outcome == 'delivered' then
      redis.call('RENAME', callbacks, settled)
    else
      redis.call('COPY', callbacks, settled, 'REPLACE')
    end
  elseif not notify then
    return {0, {}}
  end
  redis.call('HSET', settled, 'batch', id, 'token', token, 'count', count, 'bytes', bytes)
  if cause then
    redis.call('HSET', settled, 'cause', cause)
  end
  redis.call('ZADD', source .. ':settled', deadline, name)
  return {1, pending}
end
