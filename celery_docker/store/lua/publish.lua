-- Publishes a delayed job whose time has come: its message goes back to its queue. A second call does nothing.
-- KEYS: job, delayed, waiting.  ARGV: job id.
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local job = redis.call('HMGET', KEYS[1], 'state', 'queue', 'message')
if job[1] ~= 'queued' then
  return 0
end
redis.call('LPUSH', job[2], job[3])
redis.call('ZADD', KEYS[3], redis.call('TIME')[1], ARGV[1])
return 1
