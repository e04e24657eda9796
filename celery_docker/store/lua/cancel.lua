-- Writes the end request of a cancel into a job's record; workers look for it each second. A job that has ended is
-- left as it is.
-- KEYS: job, index, delayed, cancelling.  ARGV: job id, reason.
-- Returns the state it was in; 'unknown' for a job without a record. If its message exists, it will run nothing.
-- Includes lists.lua.
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
local now = redis.call('TIME')[1]
if redis.call('HEXISTS', KEYS[1], 'receipt') == 1 then
  return redis.call('HGET', KEYS[1], 'state')
end
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  redis.call('HSET', KEYS[1], 'state', 'queued')
  list_live(KEYS[2], now, ARGV[1])
end
redis.call('HSETNX', KEYS[1], 'cancelled_at', now)
redis.call('HSETNX', KEYS[1], 'cancel_reason', ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
return state or 'unknown'
