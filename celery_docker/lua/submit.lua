-- A new job: its record and its message in one step. A known job is left alone.
-- KEYS: job, index.  ARGV: job id, now, queue list, envelope, spec.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'fence', 0, 'attempt', 0,
  'submitted_at', ARGV[2], 'queue', ARGV[3], 'message', ARGV[4], 'spec', ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('LPUSH', ARGV[3], ARGV[4])
return 1
