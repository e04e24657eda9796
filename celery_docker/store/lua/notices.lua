-- Hands out notices that are due: for so many seconds nobody else gets one that was handed out.
-- KEYS: notices, tries.
-- ARGV: seconds, the most notices.
-- Returns {notice, how often it was handed out before, notice...}.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local answer = {}
for _, notice in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', KEYS[1], now + ARGV[1], notice)
  answer[#answer + 1] = notice
  local tries = redis.pcall('HINCRBY', KEYS[2], notice, 1)
  if type(tries) == 'table' then
    -- It was no number, and is in the way of no other notice.
    redis.call('HSET', KEYS[2], notice, 1)
    tries = 1
  end
  answer[#answer + 1] = tries - 1
end
return answer
