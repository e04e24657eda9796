-- Settles a job whose result is stored and whose container is gone: the host gives it out of its hand, and its record
-- gets its expiry; its batch does too after the last job.
-- KEYS: job, the host's jobs, the job's log.
-- ARGV: job id, retention in seconds, the same for the log, prefix of the keys of batches.
-- Includes record.lua.
redis.call('SREM', KEYS[2], ARGV[1])
local job = read_record(KEYS[1], 'receipt', 'batch')
if not job[1] then
  return 1
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[3])
if job[2] then
  local batch = ARGV[4] .. job[2]
  if redis.call('TYPE', batch).ok == 'hash' and (tonumber(redis.call('HGET', batch, 'open')) or 0) <= 0 then
    for _, key in ipairs({batch, batch .. ':jobs', batch .. ':held'}) do
      redis.call('EXPIRE', key, ARGV[2])
    end
  end
end
return 1
