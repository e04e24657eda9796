-- Lists the jobs that are parked for longest: the first few of each group, of a thousand groups that are drawn by lot.
-- KEYS: the groups of parked jobs.
-- ARGV: prefix of the keys of groups, prefix of the keys of reservations, the most jobs of a group.
-- Returns {the time, group, job id, parked since, the host that has reserved room for it ('' for none), group, job id...}.
local time = redis.call('TIME')
local answer = {string.format('%.6f', time[1] + time[2] / 1000000)}
local names = redis.pcall('SRANDMEMBER', KEYS[1], 1000)
for _, group in ipairs(names.err and {} or names) do
  local rows = redis.pcall('ZRANGE', ARGV[1] .. group, 0, ARGV[3] - 1, 'WITHSCORES')
  for i = 1, rows.err and 0 or #rows, 2 do
    local host = redis.pcall('GET', ARGV[2] .. rows[i])
    for _, value in ipairs({group, rows[i], rows[i + 1], type(host) == 'string' and host or ''}) do
      answer[#answer + 1] = value
    end
  end
end
return answer
