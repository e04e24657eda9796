-- Takes one job over from a silent host: it is queued again, or gets an end request. Nothing happens if the host has
-- been heard meanwhile, or if the job has changed since the host that takes over read it.
-- KEYS: job, the silent host's jobs, the new host's jobs, hosts, waiting, cancelling, the job's queue list.
-- ARGV: job id, silent host, new host, its last heartbeat as read, fence as read, '1' to end it,
-- host faults, attempts, envelope, reason of the end.
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
local heard = redis.call('ZSCORE', KEYS[4], ARGV[2])
if not heard or tonumber(heard) > tonumber(ARGV[4]) then
  return 'kept'
end
local job = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'receipt', 'cancelled_at')
if job[1] ~= ARGV[2] then
  redis.call('SREM', KEYS[2], ARGV[1])
  return 'foreign'
end
if (job[2] or '') ~= ARGV[5] then
  return 'kept'
end
redis.call('SREM', KEYS[2], ARGV[1])
if job[3] then
  -- It has ended, perhaps unreported. The new host reports it.
  redis.call('HSET', KEYS[1], 'owner', ARGV[3])
  redis.call('SADD', KEYS[3], ARGV[1])
  return 'ended'
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'owner', '', 'host_faults', ARGV[7], 'attempts', ARGV[8],
  'message', ARGV[9])
if job[4] then
  redis.call('SADD', KEYS[6], ARGV[1])
  return 'cancelled'
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local kind = redis.call('TYPE', KEYS[7]).ok
if ARGV[6] == '1' or (kind ~= 'list' and kind ~= 'none') then
  redis.call('HSET', KEYS[1], 'cancelled_at', now, 'cancel_cause', 'lost', 'cancel_reason', ARGV[10])
  redis.call('SADD', KEYS[6], ARGV[1])
  return 'lost'
end
redis.call('RPUSH', KEYS[7], ARGV[9])
redis.call('ZADD', KEYS[5], now, ARGV[1])
return 'queued'
