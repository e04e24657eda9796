-- Publishes a job again that waits by its record and whose message is in no list: it is the next to be served.
-- KEYS: job, waiting.  ARGV: job id.
local job = redis.call('HMGET', KEYS[1], 'state', 'queue', 'message')
if job[1] ~= 'queued' or not job[3] or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
redis.call('RPUSH', job[2], job[3])
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
return 1
