-- A host's sign of life. One that another machine gives under the same name, and gave a moment ago, is refused.
-- KEYS: hosts, what the host says of itself, lost hosts.
-- ARGV: host, machine, what it says of itself, seconds for which a sign of life keeps another machine away.
-- Returns {now, time of the sign before or '', what the other machine says of itself or ''}.
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local said = redis.call('HMGET', KEYS[2], 'machine', 'about')
if before and said[1] and said[1] ~= ARGV[2] and now - before < tonumber(ARGV[4]) then
  return {now, before, said[2]}
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], 'machine', ARGV[2], 'about', ARGV[3])
redis.call('PERSIST', KEYS[2])
return {now, before or '', ''}
