-- Submits a job: writes its record, and publishes its message unless it has to wait. A known job is left alone.
-- KEYS: job, index, waiting, expiring, blocked, cancelling, its batch, the batch's jobs, the batch's held jobs, users,
-- the jobs of its user, delayed, shares, windows, then the records of the jobs after which it is to run.
-- ARGV: job id, queue list, envelope, spec, seconds in which it has to start ('': no limit), batch id ('' for none),
-- index in the batch, uid of its user ('' for none), its share ('' for none), prefix of the keys of records, prefix of the keys
-- of shares, the ids of the jobs after which it is to run, then field, value, field, value...
-- Returns 1, 0 for a known job, or the first id among those it is to run after that is not known.
-- Includes share.lua.
-- Includes lists.lua.
if redis.call('EXISTS', KEYS[1]) == 1 then
  if redis.call('TYPE', KEYS[1]).ok == 'hash' then
    return 0
  end
  -- A key that holds something else is no record: it counts as lost.
  redis.call('DEL', KEYS[1])
end
local FIXED, AFTER = 14, 11
local count = #KEYS - FIXED
-- Ends here, before anything is written, where the key of the queue holds no list.
redis.call('LLEN', ARGV[2])
for i = 1, count do
  if redis.call('TYPE', KEYS[FIXED + i]).ok ~= 'hash' then
    return ARGV[AFTER + i]
  end
end

local time = redis.call('TIME')
-- A text, since Redis writes down a number anew, digit by digit, for each command that gets it.
local now = time[1] .. '.' .. string.format('%06d', time[2])
redis.call('HSET', KEYS[1], 'state', 'queued', 'fence', '0', 'attempt', '0',
  'submitted_at', now, 'queue', ARGV[2], 'message', ARGV[3], 'spec', ARGV[4], unpack(ARGV, AFTER + count + 1))
list_live(KEYS[2], now, ARGV[1])
if ARGV[8] ~= '' then
  redis.call('ZADD', KEYS[10], now, ARGV[8])
  list_live(KEYS[11], now, ARGV[1])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'expires_at', now + ARGV[5])
  redis.call('ZADD', KEYS[4], now + ARGV[5], ARGV[1])
end

local pending, failed = 0, nil
for i = 1, count do
  local before = redis.call('HMGET', KEYS[FIXED + i], 'state', 'receipt')
  if not before[2] then
    redis.call('SADD', KEYS[FIXED + i] .. ':dependents', ARGV[1])
    pending = pending + 1
  elseif before[1] ~= 'succeeded' then
    failed = failed or ('job ' .. ARGV[AFTER + i] .. ', after which it was to run, ended as ' .. before[1])
  end
end
if pending > 0 then
  redis.call('HSET', KEYS[1], 'pending', pending)
end

local held = false
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'batch', ARGV[6], 'batch_index', ARGV[7])
  -- A job that is tried again takes the place of the one that ended.
  redis.call('ZREMRANGEBYSCORE', KEYS[8], ARGV[7], ARGV[7])
  redis.call('ZADD', KEYS[8], ARGV[7], ARGV[1])
  local batch = redis.call('HMGET', KEYS[7], 'limit', 'active', 'open')
  local open, active, limit = (tonumber(batch[3]) or 0) + 1, tonumber(batch[2]) or 0, tonumber(batch[1])
  held = limit and active >= limit
  if held then
    redis.call('HSET', KEYS[1], 'held', '1')
    redis.call('RPUSH', KEYS[9], ARGV[1])
  else
    active = active + 1
  end
  redis.call('HSET', KEYS[7], 'open', string.format('%.0f', open), 'active', string.format('%.0f', active))
  if open == 1 then
    for i = 7, 9 do
      redis.call('PERSIST', KEYS[i])
    end
  end
end

if failed then
  redis.call('HSET', KEYS[1], 'cancelled_at', now, 'cancel_cause', 'cancelled', 'cancel_reason', failed)
  redis.call('SADD', KEYS[6], ARGV[1])
elseif held or pending > 0 then
  redis.call('ZADD', KEYS[5], now, ARGV[1])
else
  local at = {delayed = KEYS[12], waiting = KEYS[3], shares = KEYS[13], windows = KEYS[14], job = ARGV[10], share = ARGV[11]}
  publish_in_turn(at, now, ARGV[1], ARGV[2], ARGV[3], ARGV[9] ~= '' and ARGV[9], now)
end
return 1
