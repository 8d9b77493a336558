-- Look at what a source has stored since a follower's last look. Batches that are sealed in the next
-- seconds are copied for the followers, and copies that all of them have read are deleted.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1] -> name of the follower
-- ARGV[2] -> number of the last sealed batch that it has read; '' at its first look
-- ARGV[3] -> how much of the open batch it has read, bytes
-- ARGV[4] -> for how long copies are made and kept, unless it looks again, milliseconds
--
-- Returns {number of the last sealed batch, messages of all sealed ones, size of the open one in
--         bytes, what the open one has beyond what was read}: the last is empty where there are
--         sealed batches to be read first
local source, follower, last = KEYS[1], ARGV[1], ARGV[2]
local offset, milliseconds = tonumber(ARGV[3]), ARGV[4]

-- How many copies are deleted at most.
local DELETE = 100
local open, tail = source .. ':open', source .. ':tail'
local number = redis.call('HGET', source .. ':state', 'sequence') or '0'
last = last == '' and number or last

local read_before = redis.call('ZSCORE', tail, follower)
redis.call('ZADD', tail, last, follower)
redis.call('PEXPIRE', tail, milliseconds)
if read_before ~= last then
  local read, copies = tonumber(redis.call('ZRANGE', tail, 0, 0, 'WITHSCORES')[2]), {}
  for id = math.max(read - DELETE + 1, 1), read do
    copies[#copies + 1] = source .. ':tailed:' .. id
  end
  if #copies > 0 then
    redis.call('DEL', unpack(copies))
  end
end
return {tonumber(number), tonumber(redis.call('HGET', source .. ':stats', 'accepted') or 0),
  redis.call('STRLEN', open), last == number and redis.call('GETRANGE', open, offset, -1) or ''}
