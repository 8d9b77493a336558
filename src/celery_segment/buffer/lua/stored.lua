-- Find out whether a message was stored, after an append whose reply was lost: look into the
-- open batch or a sealed one. A batch that began before the append was sent, and does not
-- contain the message, is the last to be looked into.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> the message, followed by a comma
-- ARGV[2] -> for how long the append has been on its way, milliseconds
-- ARGV[3] -> number of the sealed batch to look into; '' for the open one
--
-- Returns {1, 0} when it was stored
-- Returns {0, 0} when it was not stored, or is settled already
-- Returns {0, number} when it may be in the sealed batch of that number
local source, message, elapsed, number = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]

-- @include _now
local state, key = source .. ':state', source .. ':open'
local since, following = redis.call('HGET', state, 'since'), redis.call('HGET', state, 'sequence')
if number ~= '' then
  key = source .. ':batch:' .. number
  since, following = redis.call('HGET', source .. ':meta:' .. number, 'since'), number - 1
end
local content = redis.call('GET', key)
if content and string.find(content, message, 1, true) then
  return {1, 0}
end
if content and since and tonumber(since) <= now() - elapsed then
  return {0, 0}
end
return {0, tonumber(following or 0)}
