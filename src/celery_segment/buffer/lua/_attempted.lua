-- Count the holder's attempt under ARGV[3], the answer's status, or the kind of failure
-- where there was no answer; '' when nothing was asked.
local function attempted()
  if ARGV[3] ~= '' then
    redis.call('HINCRBY', KEYS[1] .. ':stats', 'attempts:' .. ARGV[3], 1)
  end
end
