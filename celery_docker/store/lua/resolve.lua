-- Searches one stretch of an index, the newest first, for ids with a prefix.
-- KEYS: index.  ARGV: prefix, first rank, last rank, the most to return.
-- Returns {number of ids in the stretch, id, id...}.
local ids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3], 'REV')
local matches, length = {#ids}, #ARGV[1]
for _, id in ipairs(ids) do
  if string.sub(id, 1, length) == ARGV[1] then
    matches[#matches + 1] = id
    if #matches > tonumber(ARGV[4]) then
      return matches
    end
  end
end
return matches
