-- Publishes a delayed job whose time has come: its message goes back to its queue. A second call does nothing. While
-- the queue's key holds no list the job waits for a republish.
-- KEYS: job, delayed, waiting.  ARGV: job id.
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return 0
end
local job = redis.call('HMGET', KEYS[1], 'state', 'queue', 'message')
if job[1] ~= 'queued' or not job[2] or not job[3] then
  return 0
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[3], time[1] + time[2] / 1000000, ARGV[1])
local kind = redis.call('TYPE', job[2]).ok
if kind ~= 'list' and kind ~= 'none' then
  return 0
end
redis.call('LPUSH', job[2], job[3])
return 1
