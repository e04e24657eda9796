-- The result is stored and the container is gone: the host is done with the job, and its record starts to age.
-- KEYS: job, the host's jobs.  ARGV: job id, retention in seconds.
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'receipt') == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return 1
