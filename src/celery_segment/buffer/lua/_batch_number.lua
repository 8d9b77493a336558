-- Return a batch's number, by which batches are ordered: 7 for batch 7 and its halves 7.1, 7.2.
local function batch_number(id)
  return tonumber(string.match(id, '^%d+'))
end
