-- Ends a job: the owner writes its receipt. Nothing changes it afterwards; a second call does nothing.
-- In the same step the jobs that waited for this end are published: those to run after it, the next of its batch, and the
-- next of its share.
-- Its notices are listed to be sent; those of a batch's job once, when the last job of the batch has ended.
-- A record that Redis has lost is begun anew.
-- KEYS: job, index, the host's jobs, cancelling, waiting, blocked, delayed, shares, windows, notices, counters.
-- ARGV: host, fence, job id, state, receipt, prefix of the keys of records, prefix of the keys of batches, prefix of the keys of
-- shares, number of its notices, the class of its end, the seconds that it ran or '', its queue list as its message has it,
-- beginning of the keys of users, then field, value, field, value... for listings.
-- Returns 1, or 0 for a host that is not the owner.
-- Includes share.lua.
-- Includes count.lua.
-- Includes lists.lua.
-- Includes record.lua.
if tonumber(ARGV[9]) > 0 then
  -- Ends here, before anything is written, where the key of the notices holds something else.
  redis.call('ZCARD', KEYS[10])
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local at = {delayed = KEYS[7], waiting = KEYS[5], shares = KEYS[8], windows = KEYS[9], job = ARGV[6], share = ARGV[8]}

local function is_record(key)
  return redis.call('TYPE', key).ok == 'hash'
end

local function publish(id)
  local job = redis.call('HMGET', ARGV[6] .. id, 'queue', 'message', 'held', 'pending', 'cancelled_at', 'share', 'submitted_at')
  if not job[1] or not job[2] or job[3] or (tonumber(job[4]) or 0) > 0 or job[5] or redis.call('ZREM', KEYS[6], id) == 0 then
    return
  end
  publish_in_turn(at, now, id, job[1], job[2], job[6], job[7])
end

local function go_on_after(id)
  local key = ARGV[6] .. id
  if not is_record(key) then
    return
  end
  local job = redis.call('HMGET', key, 'pending', 'receipt')
  if not job[1] or job[2] then
    return
  end
  if ARGV[4] == 'succeeded' then
    redis.call('HSET', key, 'pending', string.format('%.0f', (tonumber(job[1]) or 1) - 1))
    return publish(id)
  end
  if redis.call('HSETNX', key, 'cancelled_at', now) == 1 then
    redis.call('HSET', key, 'cancel_cause', 'cancelled',
      'cancel_reason', 'job ' .. ARGV[3] .. ', after which it was to run, ended as ' .. ARGV[4])
  end
  redis.call('SADD', KEYS[4], id)
end

local function add(batch, active, open)
  local before = redis.call('HMGET', batch, 'active', 'open')
  redis.call('HSET', batch, 'active', string.format('%.0f', (tonumber(before[1]) or 0) + active),
    'open', string.format('%.0f', (tonumber(before[2]) or 0) + open))
end

local function release_next(batch)
  add(batch, -1, 0)
  while true do
    local id = redis.pcall('LPOP', batch .. ':held')
    if type(id) ~= 'string' then
      return
    end
    local job = {}
    if is_record(ARGV[6] .. id) then
      job = redis.call('HMGET', ARGV[6] .. id, 'state', 'held', 'cancelled_at')
    end
    if job[1] == 'queued' and job[2] and not job[3] then
      redis.call('HDEL', ARGV[6] .. id, 'held')
      add(batch, 1, 0)
      return publish(id)
    end
  end
end

local function announce(suffix)
  for number = 1, tonumber(ARGV[9]) do
    redis.call('ZADD', KEYS[10], 'NX', now, ARGV[3] .. ' ' .. number .. suffix)
  end
end

-- A batch that is being submitted may have no open job for a moment.
local function announce_batch(batch, id)
  local about = redis.call('HMGET', batch, 'open', 'size', 'notified_at')
  local count = redis.call('TYPE', batch .. ':jobs').ok == 'zset' and redis.call('ZCARD', batch .. ':jobs') or 0
  if (tonumber(about[1]) or 0) <= 0 and count >= (tonumber(about[2]) or 0)
    and tonumber(ARGV[9]) > 0 and not about[3] then
    redis.call('HSET', batch, 'notified_at', now)
    announce(' ' .. id)
  end
end

local job = read_record(KEYS[1], 'owner', 'fence', 'receipt', 'batch', 'held', 'share', 'queue', 'uid', 'state')
if not job[9] and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', ARGV[2])
  redis.call('ZADD', KEYS[2], now, ARGV[3])
  redis.call('SADD', KEYS[3], ARGV[3])
elseif job[1] ~= ARGV[1] or job[2] ~= ARGV[2] then
  return 0
end
redis.call('SREM', KEYS[4], ARGV[3])
if job[3] then
  return 1
end
if job[4] or job[6] or redis.call('EXISTS', KEYS[1] .. ':dependents') == 1 then
  -- Ends here where a key holds something else that is needed for what waits for this end: once there is a receipt, a
  -- second call does not go on.
  for i = 5, 9 do
    redis.call(i < 8 and 'ZCARD' or 'HLEN', KEYS[i])
  end
end
redis.call('HSET', KEYS[1], 'state', ARGV[4], 'receipt', ARGV[5], 'finished_at', now, unpack(ARGV, 14))
-- A second call does not come so far.
local queue = counted_queue(KEYS[11], job[7] or ARGV[12])
count(KEYS[11], queue, 'ended:' .. ARGV[10])
observe(KEYS[11], queue, 'run_s', ARGV[11])
list_ended(KEYS[2], ARGV[3], ARGV[4])
if string.match(job[8] or '', '^%d+$') then
  list_ended(ARGV[13] .. job[8] .. ':jobs', ARGV[3], ARGV[4])
end
redis.pcall('ZREM', KEYS[6], ARGV[3])
local dependents = redis.pcall('SMEMBERS', KEYS[1] .. ':dependents')
for _, id in ipairs(dependents) do
  go_on_after(id)
end
if dependents.err or #dependents > 0 then
  redis.call('DEL', KEYS[1] .. ':dependents')
end
if job[4] and is_record(ARGV[7] .. job[4]) then
  add(ARGV[7] .. job[4], 0, -1)
  -- A job that was held back until its end took no place among the published ones.
  if not job[5] then
    release_next(ARGV[7] .. job[4])
  end
  announce_batch(ARGV[7] .. job[4], job[4])
else
  announce('')
end
if job[6] and job[7] then
  leave(at, now, ARGV[3], job[6], job[7])
end
return 1
