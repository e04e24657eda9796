-- Says what there is to do for a host besides running jobs.
-- KEYS: delayed, expiring, drained, then those that are there if there is something: cancelling, pull orders, the groups of
-- parked jobs.
-- ARGV: host.
-- Returns {the time, who drains the host or false, then 1 or 0: is a job due, has one expired, is each of the last three
-- keys there}.
local time = redis.call('TIME')
local now = string.format('%.6f', time[1] + time[2] / 1000000)

-- A key that holds something else says nothing.
local function is_any_due(key)
  local ids = redis.pcall('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 1)
  return ids.err and 0 or #ids
end

local drained_by = redis.pcall('HGET', KEYS[3], ARGV[1])
local answer = {now, type(drained_by) == 'string' and drained_by, is_any_due(KEYS[1]), is_any_due(KEYS[2]), 0, 0, 0}
if redis.call('EXISTS', KEYS[4], KEYS[5], KEYS[6]) > 0 then
  for i = 4, 6 do
    answer[i + 1] = redis.call('EXISTS', KEYS[i])
  end
end
return answer
