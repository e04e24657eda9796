-- Lists the failed jobs of a part of a batch, with the time of the latest end there.
-- KEYS: the batch's jobs.  ARGV: prefix of the keys of records, first and last rank, then the states that are failures.
-- Returns {when the last of them ended ('' for none), id, id...}: those that failed, in the batch's order.
local is_failure, answer, last = {}, {''}, 0
for i = 4, #ARGV do
  is_failure[ARGV[i]] = true
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])) do
  local job = {}
  if redis.call('TYPE', ARGV[1] .. id).ok == 'hash' then
    job = redis.call('HMGET', ARGV[1] .. id, 'state', 'finished_at')
  end
  local ended_at = tonumber(job[2] or 0) or 0
  if ended_at > last then
    answer[1], last = job[2], ended_at
  end
  if job[1] and is_failure[job[1]] then
    answer[#answer + 1] = id
  end
end
return answer
