-- Takes a host that has stopped out of the list. With a job or a message in hand it stays listed, so that another host
-- takes over when its heartbeats end.
-- KEYS: hosts, report of the host, its jobs, the queue lists it took from.
-- ARGV: host, prefix of the keys of its taken messages.
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
