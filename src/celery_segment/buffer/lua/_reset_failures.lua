-- Forget the failures in a row and the probe: the endpoint works.
local function reset_failures(source)
  redis.call('DEL', source .. ':probe')
  redis.call('HDEL', source .. ':state', 'failures', 'trips', 'refusals', 'refused',
    'tripped_cause')
end
