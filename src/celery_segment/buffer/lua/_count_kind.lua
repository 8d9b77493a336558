-- Count violations of the tracking plan of one kind. So many kinds are told apart; the others are
-- counted together, under ''.
local MOST_VIOLATIONS = 300

local function count_kind(source, kind, number)
  local kinds = source .. ':violations'
  if redis.call('HEXISTS', kinds, kind) == 0 and redis.call('HLEN', kinds) >= MOST_VIOLATIONS then
    kind = ''
  end
  redis.call('HINCRBY', kinds, kind, number)
end
