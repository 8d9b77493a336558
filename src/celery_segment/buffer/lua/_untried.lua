-- Return the oldest ready batch that has not failed itself yet, among the first hundred; else nil.
local function untried(source)
  for _, id in ipairs(redis.call('ZRANGE', source .. ':ready', 0, 99)) do
    if redis.call('HEXISTS', source .. ':meta:' .. id, 'cause') == 0 then
      return id
    end
  end
end
