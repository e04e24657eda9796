-- The ids in one stretch of an index, the newest first, that begin in a certain way.
-- KEYS: index.  ARGV: beginning, first rank, last rank, the most to return.
-- Returns {how many were looked at, id, id...}.
local ids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3], 'REV')
local found, length = {#ids}, #ARGV[1]
for _, id in ipairs(ids) do
  if string.sub(id, 1, length) == ARGV[1] then
    found[#found + 1] = id
    if #found > tonumber(ARGV[4]) then
      return found
    end
  end
end
return found
