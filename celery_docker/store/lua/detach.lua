-- Removes a reader of a job's live log. What the log of a job that has ended holds only for its readers goes with the
-- last of them; while the job runs its owner sees to that.
-- KEYS: readers, index of the jobs that are read, job, log.
-- ARGV: job id, reader, the most bytes.
-- Returns 1.
redis.call('HDEL', KEYS[1], ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
redis.call('ZREM', KEYS[2], ARGV[1])
local job = redis.call('HMGET', KEYS[3], 'receipt', 'log_bytes')
local total = tonumber(job[2] or 0)
while job[1] and total > tonumber(ARGV[3]) do
  local oldest = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
  if not oldest then
    return 1
  end
  redis.call('XDEL', KEYS[4], oldest[1])
  total = total - #oldest[2][8]
  redis.call('HSET', KEYS[3], 'log_bytes', total)
end
return 1
