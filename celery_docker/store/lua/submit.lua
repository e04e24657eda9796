-- Submits jobs that have queue, batch, user and share in common, and run after the same jobs: writes the record of each, and
-- publishes its message unless it has to wait. A known job is left alone.
-- KEYS: index, waiting, expiring, blocked, cancelling, their batch, the batch's jobs, the batch's held jobs, users, the jobs
-- of their user, delayed, shares, windows, then the records of the jobs, then those of the jobs after which they are to run.
-- ARGV: queue list, batch id ('' for none), uid of their user ('' for none), their share ('' for none), prefix of the keys of
-- records, prefix of the keys of shares, how many jobs these are, and for each of them: id, envelope, spec, seconds in which
-- it has to start ('': no limit), index in the batch, the number of words that follow for it, field, value, field, value...;
-- then the ids of the jobs after which they are to run.
-- Returns for each 1, 0 for a known job, or the first id among those it is to run after that is not known.
-- Includes share.lua.
-- Includes lists.lua.
local list, batch_id, uid, share, jobs = ARGV[1], ARGV[2], ARGV[3], ARGV[4] ~= '' and ARGV[4], tonumber(ARGV[7])
local RECORDS = 13
local AFTER = RECORDS + jobs
local count = #KEYS - AFTER
local after = {unpack(ARGV, #ARGV - count + 1)}
local at = {delayed = KEYS[11], waiting = KEYS[2], shares = KEYS[12], windows = KEYS[13], job = ARGV[5], share = ARGV[6]}
-- Ends here, before anything is written, where a key that is needed holds something else than it should: who asks again
-- would hear of a job that stopped halfway that it is known.
local function check(command, ...)
  for _, place in ipairs({...}) do
    redis.call(command, KEYS[place])
  end
end

redis.call('LLEN', list)
check('ZCARD', 1, 2)
if count > 0 or batch_id ~= '' then
  check('ZCARD', 4)
  check('SCARD', 5)
end
if batch_id ~= '' then
  redis.call('HEXISTS', KEYS[6], list)
  check('ZCARD', 7)
  check('LLEN', 8)
end
if uid ~= '' then
  check('ZCARD', 9, 10)
end
if share then
  check('ZCARD', 11)
  redis.call('HEXISTS', KEYS[12], share)
  redis.call('HEXISTS', KEYS[13], list)
end

local unknown
for i = 1, count do
  redis.call('SCARD', KEYS[AFTER + i] .. ':dependents')
  if redis.call('TYPE', KEYS[AFTER + i]).ok ~= 'hash' then
    unknown = unknown or after[i]
  end
end

-- A key that holds something else is no record: it counts as lost.
local function is_known(key)
  if redis.call('EXISTS', key) == 0 then
    return false
  end
  return redis.call('TYPE', key).ok == 'hash' or redis.call('DEL', key) == 0
end

-- Returns how many of the jobs before it have not ended, and why it cannot run, if one of them has failed.
local function await(id)
  local pending, failed = 0, nil
  for i = 1, count do
    local before = redis.call('HMGET', KEYS[AFTER + i], 'state', 'receipt')
    if not before[2] then
      redis.call('SADD', KEYS[AFTER + i] .. ':dependents', id)
      pending = pending + 1
    elseif before[1] ~= 'succeeded' then
      failed = failed or ('job ' .. after[i] .. ', after which it was to run, ended as ' .. before[1])
    end
  end
  return pending, failed
end

-- Gives a job its place in the batch. Returns true if the batch's limit holds it back.
local function enter_batch(key, id, index)
  redis.call('HSET', key, 'batch', batch_id, 'batch_index', index)
  -- A job that is tried again takes the place of the one that ended.
  redis.call('ZREMRANGEBYSCORE', KEYS[7], index, index)
  redis.call('ZADD', KEYS[7], index, id)
  local batch = redis.call('HMGET', KEYS[6], 'limit', 'active', 'open')
  local open, active, limit = (tonumber(batch[3]) or 0) + 1, tonumber(batch[2]) or 0, tonumber(batch[1])
  local held = limit and active >= limit
  if held then
    redis.call('HSET', key, 'held', '1')
    redis.call('RPUSH', KEYS[8], id)
  else
    active = active + 1
  end
  redis.call('HSET', KEYS[6], 'open', string.format('%.0f', open), 'active', string.format('%.0f', active))
  if open == 1 then
    for i = 6, 8 do
      redis.call('PERSIST', KEYS[i])
    end
  end
  return held
end

-- `first` and `last` are the places of the job's words.
local function submit(key, now, first, last)
  local id, message, spec, expires_s, index = unpack(ARGV, first, first + 4)
  redis.call('HSET', key, 'state', 'queued', 'fence', '0', 'attempt', '0', 'submitted_at', now, 'queue', list,
    'message', message, 'spec', spec, unpack(ARGV, first + 6, last))
  list_live(KEYS[1], now, id)
  if uid ~= '' then
    redis.call('ZADD', KEYS[9], now, uid)
    list_live(KEYS[10], now, id)
  end
  if expires_s ~= '' then
    redis.call('HSET', key, 'expires_at', now + expires_s)
    -- Where it cannot be written, housekeeping does it by the record.
    redis.pcall('ZADD', KEYS[3], now + expires_s, id)
  end
  local pending, failed = await(id)
  if pending > 0 then
    redis.call('HSET', key, 'pending', pending)
  end
  local held = batch_id ~= '' and enter_batch(key, id, index)
  if failed then
    redis.call('HSET', key, 'cancelled_at', now, 'cancel_cause', 'cancelled', 'cancel_reason', failed)
    redis.call('SADD', KEYS[5], id)
  elseif held or pending > 0 then
    redis.call('ZADD', KEYS[4], now, id)
  else
    publish_in_turn(at, now, id, list, message, share, now)
  end
end

local time = redis.call('TIME')
local answers, first = {}, 8
for i = 1, jobs do
  local last = first + 5 + ARGV[first + 5]
  if is_known(KEYS[RECORDS + i]) then
    answers[i] = 0
  elseif unknown then
    answers[i] = unknown
  else
    -- One after the other, each with a time of its own. A text: a number is written down anew for each command.
    submit(KEYS[RECORDS + i], string.format('%.6f', time[1] + (time[2] + i) / 1000000), first, last)
    answers[i] = 1
  end
  first = last + 1
end
return answers
