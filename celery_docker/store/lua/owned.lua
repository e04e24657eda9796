-- Reads the jobs that a host owns. A member that can be no job's id is dropped, and so is a key that is no set.
-- KEYS: the host's jobs.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'set' and kind ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local owned = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if #id <= 128 and string.find(id, '^[ -9;-~]+$') then
    owned[#owned + 1] = id
  else
    redis.call('SREM', KEYS[1], id)
  end
end
return owned
