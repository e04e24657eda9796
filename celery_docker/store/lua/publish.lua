-- Publishes delayed jobs whose time has come, the longest due first: their messages go back to their queues, as far as
-- their shares have room. Jobs that are held back are looked at again here.
-- KEYS: delayed, waiting, shares, windows.
-- ARGV: the time up to which a job is due, the most jobs, prefix of the keys of records, prefix of the keys of shares.
-- Returns {how many were due, how many were published}.
-- Includes share.lua.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local at = {delayed = KEYS[1], waiting = KEYS[2], shares = KEYS[3], windows = KEYS[4], job = ARGV[3], share = ARGV[4]}

local function publish(id)
  local key = at.job .. id
  -- The one before may have let it go.
  if redis.call('ZREM', at.delayed, id) == 0 then
    return 0
  end
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' then
    -- A key that holds something else is no record: it counts as lost.
    if kind ~= 'none' then
      redis.call('DEL', key)
    end
    return 0
  end
  local job = redis.call('HMGET', key, 'state', 'queue', 'message', 'share', 'submitted_at', 'over_share')
  if job[1] ~= 'queued' or not job[2] or not job[3] then
    return 0
  end
  local count = publish_in_turn(at, now, id, job[2], job[3], job[4], job[5])
  if job[6] then
    if redis.call('ZSCORE', at.delayed, id) then
      return release(at, now, job[4], job[2], 1)
    end
    redis.call('HDEL', key, 'over_share')
  end
  return count
end

local ids = redis.call('ZRANGEBYSCORE', at.delayed, '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local count = 0
for _, id in ipairs(ids) do
  count = count + publish(id)
end
return {#ids, count}
