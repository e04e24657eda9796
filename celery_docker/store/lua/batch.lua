-- Begins a batch. Without a job it is kept for a day, otherwise as long as its jobs.
-- KEYS: batch, batches, users, the batches of its user.
-- ARGV: batch id, uid of its user ('' for none), then field, value, field, value...
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], 'created_at', now, unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], 86400)
redis.call('ZADD', KEYS[2], now, ARGV[1])
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[3], now, ARGV[2])
  redis.call('ZADD', KEYS[4], now, ARGV[1])
end
return 1
