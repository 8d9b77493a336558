-- Refuse messages from now on where Redis uses more than `share` of its maxmemory, and accept
-- them again where it does not: what is left belongs to its other users.
--
-- Returns whether messages are refused
local function keep_room(source, share)
  local used, most = memory()
  local refuse = share < 1 and used ~= nil and used > share * most
  local _, refusing = open_count(source)
  if refuse ~= refusing then
    free_first(source)
    local step = refuse and REFUSING or -REFUSING
    redis.call('INCRBY', source .. ':count', string.format('%.0f', step))
  end
  return refuse
end
