-- The owner writes how the job ended. Nothing changes it afterwards; saying it twice is the same as once.
-- A record that Redis has lost is begun again.
-- KEYS: job, index, the host's jobs, cancelling.  ARGV: host, fence, job id, state, receipt.
-- Returns 1, or 0 for somebody who is not the owner.
local job = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'receipt')
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', ARGV[2])
  redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[3])
  redis.call('SADD', KEYS[3], ARGV[3])
elseif job[1] ~= ARGV[1] or job[2] ~= ARGV[2] then
  return 0
end
redis.call('SREM', KEYS[4], ARGV[3])
if not job[3] then
  redis.call('HSET', KEYS[1], 'state', ARGV[4], 'receipt', ARGV[5])
end
return 1
