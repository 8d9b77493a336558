-- Return whether the open batch is to be tried before the ready ones: a refusal closed the source,
-- and each of them has failed, so that one with what is refused could be tried for ever.
local function open_first(source)
  return redis.call('HEXISTS', source .. ':state', 'refusals') == 1
    and open_count(source) > 0 and not untried(source)
end
