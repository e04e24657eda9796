-- Keeps a sample of the current step: in place of another one of this step, and of the latest ones only.
-- KEYS: samples.
-- ARGV: the beginning of its step (epoch seconds), the sample, how many are kept, for how many seconds.
-- Returns 1.
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then
  redis.call('DEL', KEYS[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
