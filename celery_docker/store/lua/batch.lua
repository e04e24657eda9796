-- Begins a batch. Without a job it is kept for a day, otherwise as long as its jobs.
-- KEYS: batch, batches.  ARGV: batch id, then field, value, field, value...
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], 'created_at', now, unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], 86400)
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
