-- Begins a batch. Without a job it is kept for a day, otherwise as long as its jobs. It may be sent again while jobs of it
-- are there: they would never be let go by a batch that is gone.
-- KEYS: batch, batches, users, the batches of its user.
-- ARGV: batch id, uid of its user ('' for none), then field, value, field, value...
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], 'created_at', now, unpack(ARGV, 3))
if (tonumber(redis.call('HGET', KEYS[1], 'open') or 0) or 0) <= 0 then
  redis.call('EXPIRE', KEYS[1], 86400)
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[3], now, ARGV[2])
  redis.call('ZADD', KEYS[4], now, ARGV[1])
end
return 1
