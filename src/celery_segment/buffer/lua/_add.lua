-- Append values to a flat list.
local function add(list, ...)
  for _, value in ipairs({...}) do
    list[#list + 1] = value
  end
end
