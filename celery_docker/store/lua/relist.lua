-- Lists some jobs of an index by state, as their records say it, each in one list; the newest first.
-- KEYS: index, the sorted set of the jobs: itself, or one of its lists.
-- ARGV: prefix of the keys of records, score and id of the job behind which it begins ('' and '': with the newest), the most
-- jobs to look at.
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
for i = 1, #entries, 2 do
  local record, state = ARGV[1] .. entries[i], nil
  if redis.call('TYPE', record).ok == 'hash' then
    state = redis.call('HGET', record, 'state')
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
