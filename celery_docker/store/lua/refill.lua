-- Looks after one share of a submitter: forgets published jobs that have ended or wait for their time, as a worker of an
-- older version leaves them behind, and publishes the next of its line. A share without jobs is forgotten.
-- KEYS: shares, windows, delayed, waiting.
-- ARGV: the share, prefix of the keys of records, prefix of the keys of shares, the most published jobs to look at, the
-- most jobs of the line to look at.
-- Returns how many it has published.
-- Includes share.lua.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local at = {shares = KEYS[1], windows = KEYS[2], delayed = KEYS[3], waiting = KEYS[4], job = ARGV[2], share = ARGV[3]}
local list = redis.call('HGET', at.shares, ARGV[1])
if not list then
  return 0
end
local published, held = share_keys(at, ARGV[1])
size(published)

local function is_published(id)
  if redis.call('TYPE', at.job .. id).ok ~= 'hash' or redis.call('HEXISTS', at.job .. id, 'receipt') == 1 then
    return false
  end
  return not redis.call('ZSCORE', at.delayed, id)
end

-- Those that were looked at longest ago come first.
for _, id in ipairs(redis.call('ZRANGE', published, 0, ARGV[4] - 1)) do
  if is_published(id) then
    redis.call('ZADD', published, now, id)
  else
    redis.call('ZREM', published, id)
  end
end
local count = release(at, now, ARGV[1], list, tonumber(ARGV[5]))
if redis.call('EXISTS', published, held) == 0 then
  redis.call('HDEL', at.shares, ARGV[1])
end
return count
