-- Find out which commands the user may not run within a script: each is tried in a way that
-- changes nothing. Redis looks up the permission for each command of a script, so without this a
-- transition could be refused in its middle, after some of its writes.
--
-- KEYS[1] -> {segment:<source>}, the prefix of the source's keys
-- --
-- ARGV[1…] -> names of commands, in capitals
--
-- Returns a list of those that are refused
local source, commands = KEYS[1], ARGV

-- Nothing is ever stored under this key.
local key = source .. ':free'
-- Those that would create the key: they are tried where it can be deleted again.
local CREATE = {APPEND = {key, ''}, DECR = {key}, HSETNX = {key, '', ''}, INCR = {key},
  SETNX = {key, ''}}
-- Of the others, those that write do nothing, or fail for an argument.
local ARGUMENTS = {COPY = {key, key}, DECRBY = {key, ''}, DEL = {key}, EXISTS = {key}, EXPIREAT = {key, 0},
  GET = {key}, GETRANGE = {key, 0, 0}, HDEL = {key, ''}, HEXISTS = {key, ''}, HGET = {key, ''},
  HGETALL = {key}, HINCRBY = {key, '', ''}, HKEYS = {key}, HLEN = {key}, HMGET = {key, ''},
  HSET = {key, '', '', ''}, HVALS = {key}, INCRBY = {key, ''}, PEXPIRE = {key, 0}, PING = {},
  PTTL = {key}, RENAME = {key, key}, SET = {key, '', 'PX', 0}, STRLEN = {key}, TIME = {},
  ZADD = {key, '', ''}, ZCARD = {key}, ZCOUNT = {key, 0, 0},
  ZRANGE = {key, 0, 0}, ZRANGEBYSCORE = {key, 0, 0}, ZREM = {key, ''}, ZSCORE = {key, ''}}
-- What Redis 6.2, 7 and later say of a refused command, and of one that was renamed.
local REFUSALS = {'The user executing', 'ACL failure', 'NOPERM', 'Unknown Redis command'}

local function is_refused(command, arguments)
  local reply = redis.pcall(command, unpack(arguments))
  for _, refusal in ipairs(REFUSALS) do
    if type(reply) == 'table' and reply.err and string.find(reply.err, refusal, 1, true) then
      return true
    end
  end
  return false
end

local refused, may_delete = {}, not is_refused('DEL', {key})
for _, command in ipairs(commands) do
  local arguments = ARGUMENTS[command] or may_delete and CREATE[command]
  if arguments and is_refused(command, arguments) then
    refused[#refused + 1] = command
  end
end
if may_delete then
  redis.pcall('DEL', key)
end
return refused
