-- The result is stored and the container is gone: the host is done with the job, and its record starts to age, as does
-- its batch once it was the last.
-- KEYS: job, the host's jobs, the job's log.
-- ARGV: job id, retention in seconds, the same for the log, what the keys of batches begin with.
redis.call('SREM', KEYS[2], ARGV[1])
local job = redis.call('HMGET', KEYS[1], 'receipt', 'batch')
if not job[1] then
  return 1
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[3])
if job[2] then
  local batch = ARGV[4] .. job[2]
  if tonumber(redis.call('HGET', batch, 'open') or 0) <= 0 then
    for _, key in ipairs({batch, batch .. ':jobs', batch .. ':held'}) do
      redis.call('EXPIRE', key, ARGV[2])
    end
  end
end
return 1
