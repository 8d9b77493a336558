-- Return the batch, claimed the longest ago, whose delivery was to have begun and has not:
-- who claimed it did not get the reply, or cannot reach Redis since, or is gone. Nil where there is none.
-- A claim that leaves it until `deadline`, or less long, is such an old one.
local function abandoned(source, deadline)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', source .. ':inflight', '-inf', deadline)) do
    local fields = redis.call('HMGET', source .. ':meta:' .. id, 'count', 'token')
    if fields[1] and not fields[2] then
      return id
    end
  end
end
