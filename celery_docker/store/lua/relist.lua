-- Lists some jobs of an index by state, as their records say it, each in one list; the newest first. One that has not
-- ended and of which a key was lost goes on, too: it is put back where its record says that it is.
-- KEYS: index, the sorted set of the jobs: itself, or one of its lists, then waiting, delayed, blocked, cancelling, expiring.
-- ARGV: prefix of the keys of records, score and id of the job behind which it begins ('' and '': with the newest), the most
-- jobs to look at, prefix of the keys of hosts, end of those of their jobs.
-- Returns score and id of the last of them, nothing if there is none.
-- Includes lists.lua.
-- Includes finalstates.lua.
-- Includes places.lua.
local live = list_key(KEYS[1], 'live')
local keys, key_of = {live}, {}
for _, state in ipairs(FINAL) do
  key_of[state] = ended_key(KEYS[1], state)
  keys[#keys + 1] = key_of[state]
end
local entries = entries_from(KEYS[2], rank_behind(KEYS[2], tonumber(ARGV[2]), ARGV[3], true), tonumber(ARGV[4]), true)
local own, others = {}, {}
for _, key in ipairs(keys) do
  own[key], others[key] = {}, {}
end

local function is_in(key, id)
  return type(redis.pcall('ZSCORE', key, id)) == 'string'
end

-- Puts a job back that has not ended. One whose message should be in a list is published again by a later republish.
local function put_back(id, job)
  local state, owner, cancelled_at, message, held, pending, attempt, expires_at = unpack(job, 1, 8)
  if cancelled_at then
    redis.pcall('SADD', KEYS[6], id)
  end
  if state ~= 'queued' then
    if owner and owner ~= '' then
      redis.pcall('SADD', ARGV[5] .. owner .. ARGV[6], id)
    end
  elseif not cancelled_at and message then
    if expires_at and (tonumber(attempt) or 0) == 0 then
      redis.pcall('ZADD', KEYS[7], 'NX', tonumber(expires_at) or '', id)
    end
    if not (is_in(KEYS[3], id) or is_in(KEYS[4], id) or is_in(KEYS[5], id)) then
      local waits = held or (tonumber(pending) or 0) > 0
      redis.pcall('ZADD', waits and KEYS[5] or KEYS[3], redis.call('TIME')[1], id)
    end
  end
end

for i = 1, #entries, 2 do
  local record, job = ARGV[1] .. entries[i], {}
  if redis.call('TYPE', record).ok == 'hash' then
    job = redis.call('HMGET', record, 'state', 'owner', 'cancelled_at', 'message', 'held', 'pending', 'attempt', 'expires_at')
  end
  local state = job[1]
  if state and not key_of[state] then
    put_back(entries[i], job)
  end
  -- One of which nothing is known any more is dropped with its entry in the index.
  local place = state and key_of[state] or live
  for _, key in ipairs(keys) do
    if key == place then
      table.insert(own[key], entries[i + 1])
      table.insert(own[key], entries[i])
    else
      table.insert(others[key], entries[i])
    end
  end
end
for _, key in ipairs(keys) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'zset' and kind ~= 'none' then
    redis.call('DEL', key)
  end
  if #own[key] > 0 then
    redis.call('ZADD', key, unpack(own[key]))
  end
  if #others[key] > 0 then
    redis.call('ZREM', key, unpack(others[key]))
  end
end
return {entries[#entries], entries[#entries - 1]}
