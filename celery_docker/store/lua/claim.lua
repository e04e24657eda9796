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
-- Includes record.lua.
local job = read_record(KEYS[1], 'state', 'owner', 'queue', 'needs', 'parked_at', 'cancelled_at', 'submitted_at',
  'expires_at', 'fence', 'attempt')
local state, owner, queue, needs, parked_at, cancelled_at = unpack(job, 1, 6)
local submitted_at, own_expires_at, fence, attempt = unpack(job, 7, 10)
-- Ends here, before anything is written, where a key holds something else than it should: the message stays where it is.
redis.call('SCARD', KEYS[3])
for _, place in ipairs({4, 5, 6, not state and 2 or nil}) do
  redis.call('ZCARD', KEYS[place])
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000

local function answer(verdict)
  local values = redis.call('HMGET', KEYS[1], 'fence', 'attempt', 'exits', 'host_faults', 'submitted_at', 'attempts',
    'receipt', 'cancel_reason', 'cancel_cause', 'container_id', 'batch', 'state')
  local row = {verdict}
  for i = 1, 11 do
    row[i + 1] = values[i] or ''
  end
  -- In any other state the container is that of an earlier attempt.
  if values[12] ~= 'running' then
    row[11] = ''
  end
  return row
end

-- Takes the job out of the group in which it is parked, if it is.
local function unpark()
  if not parked_at then
    return
  end
  local group = (queue or '') .. '|' .. (needs or '')
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
  local group, since = (queue or ARGV[3]) .. '|' .. ARGV[9], tonumber(parked_at or now) or now
  if type(redis.pcall('ZADD', ARGV[8] .. group, since, ARGV[1])) == 'table' then
    redis.call('DEL', ARGV[8] .. group)
    redis.call('ZADD', ARGV[8] .. group, since, ARGV[1])
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

if not state then
  -- A plain Celery client wrote only the message; the record begins here.
  redis.call('HSET', KEYS[1], 'state', 'queued', 'queue', ARGV[3], 'message', ARGV[4])
  list_live(KEYS[2], now, ARGV[1])
  state, queue = 'queued', ARGV[3]
end

-- A plain client's job that was cancelled before anybody read its message: what is to follow it stands only there.
local unread = ARGV[5] ~= '' and redis.call('HSETNX', KEYS[1], 'message', ARGV[4]) == 1
if unread and redis.call('HEXISTS', KEYS[1], 'receipt') == 1 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[2])
  redis.call('SADD', KEYS[3], ARGV[1])
  return answer('report')
end

if state ~= 'queued' then
  if owner ~= ARGV[2] then
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
if not cancelled_at then
  if redis.call('ZSCORE', KEYS[4], ARGV[1]) then
    redis.call('SREM', KEYS[3], ARGV[1])
    -- It waits for its time: this is a second copy of the message, the one that counts comes later.
    return answer('drop')
  end
  if (tonumber(attempt or 0) or 0) == 0 then
    expires_at = tonumber(own_expires_at or ARGV[7])
    if expires_at and expires_at <= now then
      cancelled_at = now
      redis.call('HSET', KEYS[1], 'cancelled_at', now, 'cancel_cause', 'expired',
        'cancel_reason', 'no host had a free slot and room for it before it expired')
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

if ARGV[10] == '0' and not cancelled_at then
  return park(expires_at)
end

-- The same message finds the job started when it comes again.
if not cancelled_at then
  local counted, since = counted_queue(KEYS[9], queue or ARGV[3]), tonumber(submitted_at or '')
  count(KEYS[9], counted, 'started')
  if since and (tonumber(attempt or 0) or 0) == 0 then
    observe(KEYS[9], counted, 'queue_s', math.max(0, now - since))
  end
end

unpark()
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('HDEL', KEYS[1], 'parked_at', 'pulled_bytes', 'pull_size_bytes')

local function following(value, otherwise)
  local number = tonumber(value or 0)
  if not number or number % 1 ~= 0 or number < 0 or number > 9e14 then
    number = otherwise
  end
  return string.format('%.0f', number + 1)
end

-- A number that is none begins again; the fence above every one that it may have been.
redis.call('HSET', KEYS[1], 'state', 'starting', 'owner', ARGV[2], 'claimed_at', now,
  'fence', following(fence, time[1]), 'attempt', following(attempt, 0))
redis.call('SADD', KEYS[3], ARGV[1])
return answer('run')
