-- Moves a parked job to the group of other needs, as a host has counted them by its own settings. It stays parked since then.
-- KEYS: job, the groups of parked jobs.
-- ARGV: job id, its queue list, its needs until now, its needs, prefix of the keys of groups.
-- Returns 1, or 0 if it is not parked with those needs any more.
local before, after = ARGV[2] .. '|' .. ARGV[3], ARGV[2] .. '|' .. ARGV[4]
local job = redis.pcall('HMGET', KEYS[1], 'state', 'queue', 'needs', 'cancelled_at')
local since = redis.pcall('ZSCORE', ARGV[5] .. before, ARGV[1])
if job.err or job[1] ~= 'queued' or job[2] ~= ARGV[2] or job[3] ~= ARGV[3] or job[4] or type(since) ~= 'string' then
  return 0
end
redis.call('HSET', KEYS[1], 'needs', ARGV[4])
if type(redis.pcall('ZADD', ARGV[5] .. after, since, ARGV[1])) == 'table' then
  redis.call('DEL', ARGV[5] .. after)
  redis.call('ZADD', ARGV[5] .. after, since, ARGV[1])
end
redis.pcall('SADD', KEYS[2], after)
redis.call('ZREM', ARGV[5] .. before, ARGV[1])
if redis.call('EXISTS', ARGV[5] .. before) == 0 then
  redis.pcall('SREM', KEYS[2], before)
end
return 1
