-- Return whether a source holds no message, and no callback that has not run.
local function is_empty(source)
  return open_count(source) == 0
    and redis.call('EXISTS', source .. ':ready', source .. ':inflight', source .. ':retrying',
      source .. ':dead', source .. ':settled') == 0
end
