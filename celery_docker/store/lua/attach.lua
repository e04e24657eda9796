-- Stores a reader's sign of life: nothing that it has not acknowledged is dropped from the job's live log.
-- KEYS: readers, index of the jobs that are read.
-- ARGV: job id, reader, sign, seconds to keep it, how many readers a job may have.
-- Returns 1, and 0 where it would be one too many.
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
return 1
