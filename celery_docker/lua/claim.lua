-- A message has reached a free slot of a host: whose job is it?
-- KEYS: job, index, the host's jobs, delayed.  ARGV: job id, host, now, queue list, envelope.
-- Returns {verdict, fence, attempt, exits, host faults, submitted_at, attempts, receipt, cancel reason};
-- an unknown one is ''.
local function answer(verdict)
  local job = redis.call('HMGET', KEYS[1], 'fence', 'attempt', 'exits', 'host_faults', 'submitted_at', 'attempts', 'receipt',
    'cancel_reason')
  local row = {verdict}
  for i = 1, 8 do
    row[i + 1] = job[i] or ''
  end
  return row
end

local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  -- A plain Celery client wrote only the message; the record begins here.
  redis.call('HSET', KEYS[1], 'state', 'queued', 'queue', ARGV[4], 'message', ARGV[5])
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
  state = 'queued'
end

if state ~= 'queued' then
  if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] or redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 0 then
    return answer('drop')
  end
  if redis.call('HEXISTS', KEYS[1], 'receipt') == 1 then
    return answer('report')
  end
  return answer('adopt')
end

if redis.call('HEXISTS', KEYS[1], 'cancelled_at') == 1 then
  redis.call('ZREM', KEYS[4], ARGV[1])
elseif redis.call('ZSCORE', KEYS[4], ARGV[1]) then
  -- It waits for its retry: this is a second copy of the message, the one that counts comes later.
  return answer('drop')
end
redis.call('HSET', KEYS[1], 'state', 'starting', 'owner', ARGV[2], 'claimed_at', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('SADD', KEYS[3], ARGV[1])
return answer('run')
