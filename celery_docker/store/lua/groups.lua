-- Counts the jobs of each group of parked jobs.
-- KEYS: the groups of parked jobs.  ARGV: prefix of the keys of groups.
-- Returns {group, count, group, count...}, of those that have jobs; a key that holds something else has none.
local answer = {}
local names = redis.pcall('SMEMBERS', KEYS[1])
for _, group in ipairs(names.err and {} or names) do
  local count = redis.pcall('ZCARD', ARGV[1] .. group)
  if type(count) == 'number' and count > 0 then
    answer[#answer + 1] = group
    answer[#answer + 1] = count
  end
end
return answer
