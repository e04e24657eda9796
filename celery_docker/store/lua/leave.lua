-- A host stops for good. As long as it has a job or a message in hand it stays, so that it can be missed.
-- KEYS: hosts, what the host says of itself, its jobs, the queue lists it took from.
-- ARGV: host, what the keys of its taken messages begin with.
-- Returns 1 if it has left.
if redis.call('SCARD', KEYS[3]) > 0 then
  return 0
end
for _, source in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  if redis.call('LLEN', ARGV[2] .. source) > 0 then
    return 0
  end
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[4])
return 1
