-- Which jobs are to end and have not: every one that a host has, and of those that still wait some.
-- KEYS: cancelling.  ARGV: what the keys of records begin with, the most of those that wait.
local found, waiting, most = {}, 0, tonumber(ARGV[2])
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local waits = redis.call('HGET', ARGV[1] .. id, 'state') == 'queued'
  if waits then
    waiting = waiting + 1
  end
  if not waits or waiting <= most then
    found[#found + 1] = id
  end
end
return found
