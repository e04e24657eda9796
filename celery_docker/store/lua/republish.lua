-- Publishes a job again that waits by its record and whose message is in no list: it is the next to be served.
-- KEYS: job, waiting.  ARGV: job id.
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
local job = redis.call('HMGET', KEYS[1], 'state', 'queue', 'message')
local kind = job[2] and redis.call('TYPE', job[2]).ok
local is_list = kind == 'list' or kind == 'none'
if job[1] ~= 'queued' or not job[3] or not is_list or not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
redis.call('RPUSH', job[2], job[3])
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
return 1
