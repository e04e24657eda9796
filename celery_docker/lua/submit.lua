-- A new job: its record and its message in one step. A known job is left alone.
-- KEYS: job, index, waiting, expiring.
-- ARGV: job id, queue list, envelope, spec, the seconds in which it has to start, '' for any.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('HSET', KEYS[1], 'state', 'queued', 'fence', 0, 'attempt', 0,
  'submitted_at', now, 'queue', ARGV[2], 'message', ARGV[3], 'spec', ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'expires_at', now + ARGV[5])
  redis.call('ZADD', KEYS[4], now + ARGV[5], ARGV[1])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('LPUSH', ARGV[2], ARGV[3])
return 1
