-- Writes the end request of an expiry for a job that had to start by now and has not.
-- KEYS: job, expiring, cancelling, delayed.  ARGV: job id.
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
redis.call('ZREM', KEYS[2], ARGV[1])
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'cancelled_at', 'pending', 'held', 'over_share')
if job[1] ~= 'queued' or (tonumber(job[2]) or 0) > 0 or job[3] then
  return 0
end
local reason = 'no host had a free slot and room for it before it expired'
if (tonumber(job[4]) or 0) > 0 then
  reason = 'the jobs after which it was to run had not succeeded before it expired'
elseif job[5] then
  reason = 'the limit of its batch held it back until it expired'
elseif job[6] then
  reason = 'other jobs of its submitter were before it until it expired'
end
redis.call('HSET', KEYS[1], 'cancelled_at', redis.call('TIME')[1], 'cancel_cause', 'expired', 'cancel_reason', reason)
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
