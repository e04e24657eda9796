-- Records a heartbeat of a host. It is refused while another machine sends heartbeats under the same name.
-- KEYS: hosts, report of the host, lost hosts.
-- ARGV: host, machine, its report, seconds for which a heartbeat keeps another machine away.
-- Returns {now, time of the heartbeat before or '', report of the other machine or ''}.
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local known = redis.call('HMGET', KEYS[2], 'machine', 'about')
if before and known[1] and known[1] ~= ARGV[2] and now - before < tonumber(ARGV[4]) then
  return {now, before, known[2]}
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], 'machine', ARGV[2], 'about', ARGV[3])
redis.call('PERSIST', KEYS[2])
return {now, before or '', ''}
