-- Count the open batch's messages from its content, where :count is lost. It takes some
-- milliseconds, once.
local function recount(source)
  local open = redis.call('GET', source .. ':open')
  if not open then
    return 0
  end
  local is_whole, messages = pcall(cjson.decode, '[' .. string.sub(open, 1, -2) .. ']')
  local count = is_whole and #messages or 1
  free_first(source)
  redis.call('SET', source .. ':count', count)
  return count
end
