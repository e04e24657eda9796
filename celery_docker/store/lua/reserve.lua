-- Reserves a host's room for a parked job, for some seconds, or goes on doing so. One host may have it.
-- KEYS: job, its reservation.  ARGV: host, seconds, needs of the job as the host knows them.
-- Returns 1, or 0 if the job is not parked with these needs any more, or another host has reserved room for it.
local job = redis.pcall('HMGET', KEYS[1], 'state', 'parked_at', 'cancelled_at', 'needs')
local holder = redis.pcall('GET', KEYS[2])
local is_free = not holder or holder == ARGV[1] or type(holder) == 'table'
if job.err or job[1] ~= 'queued' or not job[2] or job[3] or job[4] ~= ARGV[3] or not is_free then
  if holder == ARGV[1] then
    redis.call('DEL', KEYS[2])
  end
  return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
