-- Lists the jobs with an end request that have not ended: all that a host has in hand, and some of those that wait.
-- KEYS: cancelling.  ARGV: prefix of the keys of records, the most to list of those that wait.
local ids, waiting, most = {}, 0, tonumber(ARGV[2])
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local is_record = redis.call('TYPE', ARGV[1] .. id).ok == 'hash'
  local waits = is_record and redis.call('HGET', ARGV[1] .. id, 'state') == 'queued'
  if not is_record then
    redis.call('SREM', KEYS[1], id)
  end
  if waits then
    waiting = waiting + 1
  end
  if is_record and (not waits or waiting <= most) then
    ids[#ids + 1] = id
  end
end
return ids
