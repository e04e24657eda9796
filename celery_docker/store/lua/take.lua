-- Takes one message for a host: it moves from its queue to the host's list in one step, so that it is always in one of
-- them. After a reconnect, the messages that the host took and never claimed go back to their queues first.
-- Of each queue list, the jobs that are parked come first, if the host has room for them; then its messages. On the way
-- messages of jobs with an end request are dropped, a bounded number in one call: their records end without them, and no
-- slot is taken for that. Jobs that need more room than there is are parked on the way, too.
-- For instance, with 2 GiB free, and the messages a (needs 1 GiB), b (4 GiB) and c (1 GiB), the first of them served first:
--   take  a moves to the host; it starts, and 1 GiB is left
--   take  b is parked in the group of its list and needs; c moves to the host
--   take  nothing fits: once a and c have ended, b moves to the host before what was submitted later
-- KEYS: the host's sources, waiting, cancelling, the groups of parked jobs, then the queue lists in the order in which
-- they are to be served.
-- ARGV: prefix of the host's lists of taken messages, 1 after a reconnect, prefix of the keys of records, the most
-- messages to drop or park, prefix of the keys of groups, the room that is free for any job, the one for the job that
-- room is reserved for, the room of the host without jobs, the id of that job ('' for none). A room is written as needs are.
-- Returns {list, message}, false if all of them are empty, {'', number of messages dropped or parked}: then it is asked
-- again, or {'', 0}: jobs are parked that the host could hold, so that it should ask again soon.
-- Includes putback.lua.
local FIRST, LONGEST = 5, 1572864
-- The most groups that are looked at, drawn by lot, and the most jobs of one that are found to have gone on.
local GROUPS, GONE = 1000, 100

local function parsed(text)
  local cpus, memory, gpus, devices = string.match(text .. ' ', '^(%d+) (%d+) (%d+) ([^ ]*) ?$')
  return cpus and {tonumber(cpus), tonumber(memory), tonumber(gpus), devices}
end

local FREE, RESERVED, WHOLE = parsed(ARGV[6]), parsed(ARGV[7]), parsed(ARGV[8])

-- Returns whether needs fit a room; nil for a text that says none.
local function fits(text, room)
  local needs = parsed(text)
  if not needs then
    return nil
  end
  for i = 1, 3 do
    if needs[i] > 0 and needs[i] > room[i] then
      return false
    end
  end
  for device in string.gmatch(needs[4], '[^,]+') do
    if not string.find(',' .. room[4] .. ',', ',' .. device .. ',', 1, true) then
      return false
    end
  end
  return true
end

local is_served = {}
for i = FIRST, #KEYS do
  is_served[KEYS[i]] = true
end
-- Whether jobs are parked that the host could hold.
local could_hold = false

-- Not once for all: `bury.lua` has forgotten the lists of a host that stood still for so long that it was lost.
local function remember(list)
  lose_unless('set', KEYS[1])
  redis.call('SADD', KEYS[1], list)
end

local function deliver(list, message)
  remember(list)
  redis.call('LPUSH', ARGV[1] .. list, message)
  return {list, message}
end

local function forget_if_empty(group)
  if redis.call('EXISTS', ARGV[5] .. group) == 0 then
    redis.pcall('SREM', KEYS[4], group)
  end
end

-- Returns the message of a job that is still parked in a group, which it has just left.
local function parked_message(id, group)
  local job = redis.pcall('HMGET', ARGV[3] .. id, 'state', 'queue', 'needs', 'message', 'cancelled_at')
  if job.err or job[1] ~= 'queued' or not job[4] then
    return nil
  end
  if job[5] then
    redis.call('ZREM', KEYS[2], id)
    redis.call('SADD', KEYS[3], id)
    return nil
  end
  return (job[2] or '') .. '|' .. (job[3] or '') == group and job[4] or nil
end

-- Takes the job for which the host has reserved room, if there is enough now.
local function take_reserved()
  local job = redis.pcall('HMGET', ARGV[3] .. ARGV[9], 'queue', 'needs')
  if job.err or not job[1] or not job[2] or not is_served[job[1]] or not fits(job[2], RESERVED) then
    return nil
  end
  local group = job[1] .. '|' .. job[2]
  if redis.pcall('ZREM', ARGV[5] .. group, ARGV[9]) ~= 1 then
    return nil
  end
  forget_if_empty(group)
  local message = parked_message(ARGV[9], group)
  return message and deliver(job[1], message)
end

-- Returns the groups with room for their jobs, by their lists; of a list, the one whose first job is parked for longest
-- is the first.
local function fitting_groups()
  local by_list = {}
  local names = redis.pcall('SRANDMEMBER', KEYS[4], GROUPS)
  for _, group in ipairs(names.err and {} or names) do
    local list, needs = string.match(group, '^(.*)|([^|]*)$')
    if list and is_served[list] then
      could_hold = could_hold or fits(needs, WHOLE)
      if fits(needs, FREE) then
        local head = redis.pcall('ZRANGE', ARGV[5] .. group, 0, 0, 'WITHSCORES')
        if head.err or not head[1] then
          redis.call('SREM', KEYS[4], group)
        else
          by_list[list] = by_list[list] or {}
          table.insert(by_list[list], {tonumber(head[2]), group})
        end
      end
    end
  end
  for _, groups in pairs(by_list) do
    table.sort(groups, function(a, b) return a[1] < b[1] end)
  end
  return by_list
end

local function take_parked(list, group)
  for _ = 1, GONE do
    local id = redis.call('ZRANGE', ARGV[5] .. group, 0, 0)[1]
    if not id then
      break
    end
    redis.call('ZREM', ARGV[5] .. group, id)
    local message = parked_message(id, group)
    if message then
      forget_if_empty(group)
      return deliver(list, message)
    end
  end
  forget_if_empty(group)
end

-- Returns the id of the job of a message that goes no further, and 'end' or 'park' for what becomes of the job; nothing
-- becomes of one that has begun, of which this is a copy. Then its needs. Returns nil for all others.
local function aside(message, list)
  if #message > LONGEST then
    return nil
  end
  local is_json, envelope = pcall(cjson.decode, message)
  local headers = is_json and type(envelope) == 'table' and envelope.headers
  local id = type(headers) == 'table' and headers.id
  if type(id) ~= 'string' then
    return nil
  end
  local job = redis.pcall('HMGET', ARGV[3] .. id, 'cancelled_at', 'receipt', 'message', 'state', 'queue', 'needs')
  if job.err then
    return nil
  end
  if job[1] then
    -- A plain client's message that nobody has read yet: what is to follow its job stands only there.
    if not job[3] and type(headers.group) == 'string' then
      return nil
    end
    return id, not job[2] and 'end' or 'drop'
  end
  -- What waits for its time, and what is not the message of the record, is for the claim to judge.
  if not job[6] or job[4] ~= 'queued' or job[5] ~= list or job[3] ~= message or type(headers.eta) == 'string' then
    return nil
  end
  if fits(job[6], FREE) == false and not (id == ARGV[9] and fits(job[6], RESERVED)) then
    return id, 'park', job[6]
  end
end

local function park(id, list, needs)
  local time = redis.call('TIME')
  local group = list .. '|' .. needs
  redis.call('HSETNX', ARGV[3] .. id, 'parked_at', time[1] + time[2] / 1000000)
  local parked_at = tonumber(redis.call('HGET', ARGV[3] .. id, 'parked_at')) or time[1]
  -- A key that holds something else counts as lost.
  if type(redis.pcall('ZADD', ARGV[5] .. group, parked_at, id)) == 'table' then
    redis.call('DEL', ARGV[5] .. group)
    redis.call('ZADD', ARGV[5] .. group, parked_at, id)
  end
  redis.pcall('SADD', KEYS[4], group)
  could_hold = could_hold or fits(needs, WHOLE)
end

-- Takes messages that go no further off the end of a list that is served first; returns how many, and the next message if one
-- is left.
local function clear(list)
  local count, gone, to_end = 0, {}, {}
  local message = redis.pcall('LINDEX', list, -1)
  if type(message) == 'table' then
    -- What is no list holds no messages, and is in the way of no other.
    return 0
  end
  while message and count < tonumber(ARGV[4]) do
    local id, fate, needs = aside(message, list)
    if not id then
      break
    end
    count = count + 1
    if fate == 'park' then
      park(id, list, needs)
    else
      gone[#gone + 1] = id
      to_end[#to_end + 1] = fate == 'end' and id or nil
    end
    redis.call('RPOP', list)
    message = redis.call('LINDEX', list, -1)
  end
  if #gone > 0 then
    redis.call('ZREM', KEYS[2], unpack(gone))
  end
  if #to_end > 0 then
    redis.call('SADD', KEYS[3], unpack(to_end))
  end
  return count, message
end

if ARGV[2] == '1' then
  for i = FIRST, #KEYS do
    remember(KEYS[i])
  end
  put_back(KEYS[1], ARGV[1])
end
local taken = ARGV[9] ~= '' and take_reserved()
if taken then
  return taken
end
local groups = fitting_groups()
for i = FIRST, #KEYS do
  for _, entry in ipairs(groups[KEYS[i]] or {}) do
    taken = take_parked(KEYS[i], entry[2])
    if taken then
      return taken
    end
  end
  local count, message = clear(KEYS[i])
  if count > 0 then
    return {'', count}
  end
  if message then
    remember(KEYS[i])
    return {KEYS[i], redis.call('LMOVE', KEYS[i], ARGV[1] .. KEYS[i], 'RIGHT', 'LEFT')}
  end
  -- An idle host asks each second: one question for all other lists.
  if i == FIRST and i < #KEYS and not next(groups) and redis.call('EXISTS', unpack(KEYS, i + 1)) == 0 then
    break
  end
end
return could_hold and {'', 0} or false
