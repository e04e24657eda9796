-- Puts a notice off that could not be sent now; one that was sent meanwhile stays away.
-- KEYS: notices, tries.
-- ARGV: notice, seconds, -1 where nothing was tried, else 0.
-- Returns 1, or 0 for one that is not listed any more.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + ARGV[2], ARGV[1])
redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[3])
return 1
