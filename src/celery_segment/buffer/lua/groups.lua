-- Read the groups of the dead letters, and what is in none of them.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
--
-- Returns a flat list: id, title, messages, letters, oldest and youngest (milliseconds) of each
--         group. The last is of the letters that are in none, since they were given up before
--         there were groups: its id is ungrouped, and its times are those of all dead letters
local source = KEYS[1]

-- @include _add
local groups, dead, found = source .. ':groups', source .. ':dead', {}

local function time_of(set, place)
  return tonumber(redis.call('ZRANGE', set, place, place, 'WITHSCORES')[2] or 0)
end

local fields, flat = {}, redis.call('HGETALL', groups)
for i = 1, #flat, 2 do
  fields[flat[i]] = flat[i + 1]
end
local grouped = 0
for name, title in pairs(fields) do
  local counted, letters = fields[name .. ':messages'], dead .. ':' .. name
  local count = counted and redis.call('ZCARD', letters) or 0
  if count > 0 then
    -- A hand may have deleted what was counted before.
    local messages = math.max(tonumber(counted), 0)
    grouped = grouped + messages
    add(found, name, title, messages, count, time_of(letters, 0), time_of(letters, -1))
  end
end
local all = tonumber(redis.call('HGET', source .. ':stats', 'dead') or 0)
local others = redis.call('ZCARD', dead) - math.max(tonumber(fields.letters or 0), 0)
if others > 0 then
  add(found, 'ungrouped', '', math.max(all - grouped, 0), others, time_of(dead, 0), time_of(dead, -1))
end
return found
