-- Decide whose job the message is that a free slot of a host took. Whatever the answer, the message is done with.
-- A message may come twice, and the record decides. For instance, with a job that two hosts see:
--   node1  takes the message and claims: the record is queued, so its answer is 'run', fence 1
--   node1  loses power; node2 takes its jobs over: the record is queued again, a new message is in the list
--   node2  claims the new message: 'run', fence 2; the job runs there
--   node1  is back, and finds the first message in its list of taken ones: the owner is node2, so 'drop'
--   node1  tells the end of the container that it still has: fence 1 is not the record's, so nobody believes it
-- A job that would run and does not fit the host's room is parked: it waits in the group of its queue list and needs.
-- KEYS: job, index, the host's jobs, delayed, waiting, expiring, the host's list of taken messages, the groups of
-- parked jobs, counters.
-- ARGV: job id, host, queue list, envelope, the message as it was taken, not before, not after (epoch seconds), prefix of
-- the keys of groups, its needs, 1 if they fit the host's room, otherwise 0.
-- What is unknown is '', in the answer too. Returns {verdict, fence, attempt, exits, host faults, submitted_at,
-- attempts, receipt, cancel reason, cancel cause, id of the container that this attempt may have started, its batch}.
-- Includes count.lua.
-- Includes lists.lua.
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function answer(verdict)
  local job = redis.call('HMGET', KEYS[1], 'fence', 'attempt', 'exits', 'host_faults', 'submitted_at', 'attempts',
    'receipt', 'cancel_reason', 'cancel_cause')
  local row = {verdict}
  for i = 1, 9 do
    row[i + 1] = job[i] or ''
  end
  -- In any other state the field is that of an earlier attempt.
  local running = redis.call('HGET', KEYS[1], 'state') == 'running'
  row[11] = running and redis.call('HGET', KEYS[1], 'container_id') or ''
  row[12] = redis.call('HGET', KEYS[1], 'batch') or ''
  return row
end

-- Takes the job out of the group in which it is parked, if it is.
local function unpark()
  local job = redis.call('HMGET', KEYS[1], 'parked_at', 'queue', 'needs')
  if not job[1] then
    return
  end
  local group = (job[2] or '') .. '|' .. (job[3] or '')
  redis.pcall('ZREM', ARGV[8] .. group, ARGV[1])
  if redis.call('EXISTS', ARGV[8] .. group) == 0 then
    redis.pcall('SREM', KEYS[8], group)
  end
end

local function park(expires_at)
  unpark()
  redis.call('HSETNX', KEYS[1], 'queue', ARGV[3])
  redis.call('HSETNX', KEYS[1], 'message', ARGV[4])
  redis.call('HSETNX', KEYS[1], 'parked_at', now)
  redis.call('HSET', KEYS[1], 'needs', ARGV[9])
  local job = redis.call('HMGET', KEYS[1], 'queue', 'parked_at')
  local group, parked_at = job[1] .. '|' .. ARGV[9], tonumber(job[2]) or now
  if type(redis.pcall('ZADD', ARGV[8] .. group, parked_at, ARGV[1])) == 'table' then
    redis.call('DEL', ARGV[8] .. group)
    redis.call('ZADD', ARGV[8] .. group, parked_at, ARGV[1])
  end
  redis.pcall('SADD', KEYS[8], group)
  -- Housekeeping publishes it again, should the group be lost.
  redis.call('ZADD', KEYS[5], 'NX', now, ARGV[1])
  if expires_at then
    redis.call('HSET', KEYS[1], 'expires_at', expires_at)
    redis.call('ZADD', KEYS[6], expires_at, ARGV[1])
  end
  redis.call('SREM', KEYS[3], ARGV[1])
  return answer('park')
end

if ARGV[5] ~= '' then
  redis.call('LREM', KEYS[7], 1, ARGV[5])
end

local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  -- A plain Celery client wrote only the message; the record begins here.
  redis.call('HSET', KEYS[1], 'state', 'queued', 'queue', ARGV[3], 'message', ARGV[4])
  list_live(KEYS[2], now, ARGV[1])
  state = 'queued'
end

-- A plain client's job that was cancelled before anybody read its message: what is to follow it stands only there.
local unread = ARGV[5] ~= '' and redis.call('HSETNX', KEYS[1], 'message', ARGV[4]) == 1
if unread and redis.call('HEXISTS', KEYS[1], 'receipt') == 1 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[2])
  redis.call('SADD', KEYS[3], ARGV[1])
  return answer('report')
end

if state ~= 'queued' then
  if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then
    redis.call('SREM', KEYS[3], ARGV[1])
    return answer('drop')
  end
  if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 0 then
    return answer('drop')
  end
  if redis.call('HEXISTS', KEYS[1], 'receipt') == 1 then
    return answer('report')
  end
  return answer('adopt')
end

local expires_at
if redis.call('HEXISTS', KEYS[1], 'cancelled_at') == 0 then
  if redis.call('ZSCORE', KEYS[4], ARGV[1]) then
    redis.call('SREM', KEYS[3], ARGV[1])
    -- It waits for its time: this is a second copy of the message, the one that counts comes later.
    return answer('drop')
  end
  if (tonumber(redis.call('HGET', KEYS[1], 'attempt')) or 0) == 0 then
    expires_at = tonumber(redis.call('HGET', KEYS[1], 'expires_at') or ARGV[7])
    if expires_at and expires_at <= now then
      redis.call('HSET', KEYS[1], 'cancelled_at', now, 'cancel_cause', 'expired',
        'cancel_reason', 'no host had a free slot for it before it expired')
    elseif ARGV[6] ~= '' and tonumber(ARGV[6]) > now then
      redis.call('ZADD', KEYS[4], ARGV[6], ARGV[1])
      redis.call('ZREM', KEYS[5], ARGV[1])
      if expires_at then
        redis.call('HSET', KEYS[1], 'expires_at', expires_at)
        redis.call('ZADD', KEYS[6], expires_at, ARGV[1])
      end
      return answer('drop')
    end
  end
end

if ARGV[10] == '0' and redis.call('HEXISTS', KEYS[1], 'cancelled_at') == 0 then
  return park(expires_at)
end

-- The same message finds the job started when it comes again.
local job = redis.call('HMGET', KEYS[1], 'queue', 'attempt', 'submitted_at', 'cancelled_at')
if not job[4] then
  local queue, submitted_at = counted_queue(KEYS[9], job[1] or ARGV[3]), tonumber(job[3] or '')
  count(KEYS[9], queue, 'started')
  if submitted_at and (tonumber(job[2] or 0) or 0) == 0 then
    observe(KEYS[9], queue, 'queue_s', math.max(0, now - submitted_at))
  end
end

unpark()
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('HDEL', KEYS[1], 'parked_at', 'pulled_bytes', 'pull_size_bytes')
-- A number that is none begins again; the fence above every one that it may have been.
for _, name in ipairs({'fence', 'attempt'}) do
  local number = tonumber(redis.call('HGET', KEYS[1], name) or 0)
  if not number or number % 1 ~= 0 or number < 0 or number > 9e14 then
    redis.call('HSET', KEYS[1], name, name == 'fence' and time[1] or 0)
  end
end
redis.call('HSET', KEYS[1], 'state', 'starting', 'owner', ARGV[2], 'claimed_at', now)
redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('SADD', KEYS[3], ARGV[1])
return answer('run')
