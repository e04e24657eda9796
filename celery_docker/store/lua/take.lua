-- Takes one message for a host: it moves from its queue to the host's list in one step, so that it is always in one of
-- them. After a reconnect, the messages that the host took and never claimed go back to their queues first.
-- On the way, messages of jobs with an end request are dropped, a bounded number in one call: their records end without
-- them, and no slot is taken for that.
-- KEYS: the host's sources, waiting, cancelling, then the queue lists in the order in which they are to be served.
-- ARGV: prefix of the host's lists of taken messages, 1 after a reconnect, prefix of the keys of records, the most
-- messages to drop.
-- Returns {list, message}, false if all of them are empty, or {'', number of messages dropped}: then it is asked again.
local FIRST, LONGEST = 4, 1572864

-- Returns the id of a message whose job has an end request, and whether it has not ended; else nil. Where the job has
-- begun, this is a copy.
local function dropped_id(message)
  if #message > LONGEST then
    return nil
  end
  local is_json, envelope = pcall(cjson.decode, message)
  local headers = is_json and type(envelope) == 'table' and envelope.headers
  local id = type(headers) == 'table' and headers.id
  if type(id) ~= 'string' then
    return nil
  end
  local job = redis.pcall('HMGET', ARGV[3] .. id, 'cancelled_at', 'receipt', 'message')
  if job.err or not job[1] then
    return nil
  end
  -- A plain client's message that nobody has read yet: what is to follow its job stands only there.
  if not job[3] and type(headers.group) == 'string' then
    return nil
  end
  return id, not job[2]
end

-- Drops the messages of such jobs from the end of a list that is served first; returns how many.
local function drop(list)
  local texts, ids, to_end = redis.call('LRANGE', list, -ARGV[4], -1), {}, {}
  for i = #texts, 1, -1 do
    local id, has_to_end = dropped_id(texts[i])
    if not id then
      break
    end
    ids[#ids + 1] = id
    if has_to_end then
      to_end[#to_end + 1] = id
    end
  end
  redis.call('RPOP', list, #ids)
  redis.call('ZREM', KEYS[2], unpack(ids))
  if #to_end > 0 then
    redis.call('SADD', KEYS[3], unpack(to_end))
  end
  return #ids
end

if ARGV[2] == '1' then
  for i = FIRST, #KEYS do
    redis.call('SADD', KEYS[1], KEYS[i])
  end
  for _, source in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    -- The newest first, so that the oldest is the next to be served.
    while redis.call('LMOVE', ARGV[1] .. source, source, 'LEFT', 'RIGHT') do end
  end
end
for i = FIRST, #KEYS do
  local message = redis.call('LINDEX', KEYS[i], -1)
  if message and dropped_id(message) then
    return {'', drop(KEYS[i])}
  elseif message then
    redis.call('LMOVE', KEYS[i], ARGV[1] .. KEYS[i], 'RIGHT', 'LEFT')
    return {KEYS[i], message}
  end
end
return false
