-- A message that was refused goes back to the end of its queue, as if it had just been sent. A job that ended because of
-- it is forgotten first, if there is nothing else of it than that.
-- KEYS: refused messages, their texts, the queue list, index, the job's record.  ARGV: number, job id ('' for none).
-- Includes lists.lua.
-- Returns 1; 0 if it is not there any more; 'cut' if its text was not kept; 'ended' if its job has ended.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local text = redis.call('HGET', KEYS[2], ARGV[1])
if not text then
  return 'cut'
end
if ARGV[2] ~= '' then
  local job = redis.call('HMGET', KEYS[5], 'state', 'spec', 'receipt')
  if job[3] and (job[1] ~= 'rejected' or job[2]) then
    return 'ended'
  end
  if job[3] then
    redis.call('DEL', KEYS[5])
    redis.call('ZREM', KEYS[4], ARGV[2])
    redis.pcall('ZREM', ended_key(KEYS[4], job[1]), ARGV[2])
  end
end
redis.call('LPUSH', KEYS[3], text)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
