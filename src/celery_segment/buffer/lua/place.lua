-- Find out where a batch is.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> batch id
--
-- Returns {place, milliseconds for which it is left to its holder}: places are ready, retrying,
--         dead, inflight, delivered (kept until on_delivered was called) and moving (to another
--         source); '' where it is settled
local source, id = KEYS[1], ARGV[1]

-- @include _now
for _, place in ipairs({'ready', 'retrying', 'dead'}) do
  if redis.call('ZSCORE', source .. ':' .. place, id) then
    return {place, 0}
  end
end
local lease = redis.call('ZSCORE', source .. ':inflight', id)
local kept = redis.call('ZSCORE', source .. ':settled', 'delivered:' .. id)
if lease or kept then
  return {lease and 'inflight' or 'delivered', math.max((lease or kept) - now(), 0)}
end
local moving = redis.call('HGET', source .. ':state', 'moving') or ''
return {string.match(moving, '^%d+ %a+ (%S+)$') == id and 'moving' or '', 0}
