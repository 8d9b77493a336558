-- Count an attempt under the status of its response, or the kind of its failure where there
-- was no response; '' when no request was made, which counts nothing.
local function count_attempt(source, status, time)
  if status ~= '' then
    redis.call('HINCRBY', source .. ':stats', 'attempts:' .. status, 1)
    add_to_history(source, time, 'attempts:' .. status, 1)
  end
end
