-- Declares a silent host lost, once it owns no job: the messages that it took and did not claim go back to their queue
-- lists, to the end that is read next. The oldest goes last, so it is read first.
-- KEYS: hosts, lost hosts, report of the host, its jobs, the queue lists it took from.
-- ARGV: host, its last heartbeat as read, prefix of the keys of its taken messages,
-- seconds for which it is remembered.
-- Returns 1 if it is lost now.
-- Includes putback.lua.
local heard = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not heard or tonumber(heard) > tonumber(ARGV[2]) or redis.call('SCARD', KEYS[4]) > 0 then
  return 0
end
if not put_back(KEYS[5], ARGV[3]) then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', heard - ARGV[4])
redis.call('ZADD', KEYS[2], heard, ARGV[1])
redis.call('DEL', KEYS[5])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return 1
