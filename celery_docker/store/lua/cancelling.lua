-- Lists the jobs with an end request that have not ended: all that a host has in hand, and some of those that wait.
-- KEYS: cancelling.  ARGV: prefix of the keys of records, the most to list of those that wait.
local ids, waiting, most = {}, 0, tonumber(ARGV[2])
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local waits = redis.call('HGET', ARGV[1] .. id, 'state') == 'queued'
  if waits then
    waiting = waiting + 1
  end
  if not waits or waiting <= most then
    ids[#ids + 1] = id
  end
end
return ids
