-- Part of other scripts, which take it in by naming it: the counters of all jobs. They are one hash, with a field for each
-- figure of each queue, such as "ended:failed celery", for those who ask how much was done. Nothing depends on them: what
-- has another form begins again, and none of this can fail in a script.
-- The first MOST_QUEUES queues have counters of their own, those of all others are together in `other`.
local MOST_QUEUES, MOST_NAME_BYTES, OTHER = 50, 128, 'other'
-- An observation counts in the first bound that it does not exceed, or in `inf`. They are those of `core.figures`.
local BOUNDS = {
  queue_s = {1, 5, 15, 60, 300, 900, 3600, 14400, 86400},
  run_s = {1, 10, 60, 300, 1800, 7200, 28800, 86400, 604800},
}

local function add_to(key, field, by)
  local sum = redis.pcall('HINCRBYFLOAT', key, field, by)
  local number = type(sum) ~= 'table' and tonumber(sum)
  if not number or number < 0 or number >= 2 ^ 53 then
    redis.pcall('HSET', key, field, by)
  end
end

-- Returns the name under which the jobs of a queue list are counted.
local function counted_queue(key, list)
  -- The list of another priority has it behind the name.
  local queue = string.match(list or '', '^[^\6]*')
  if queue == '' or #queue > MOST_NAME_BYTES then
    return OTHER
  end
  local is_counted = redis.pcall('HEXISTS', key, 'queue ' .. queue)
  if is_counted == 1 then
    return queue
  elseif is_counted ~= 0 then
    redis.call('DEL', key)
  end
  local known = tonumber(redis.call('HGET', key, 'queues')) or 0
  if known >= MOST_QUEUES and known < math.huge then
    return OTHER
  end
  add_to(key, 'queues', 1)
  redis.pcall('HSET', key, 'queue ' .. queue, 1)
  return queue
end

-- Adds 1 to a figure of a queue, as `counted_queue` returns it.
local function count(key, queue, figure)
  add_to(key, figure .. ' ' .. queue, 1)
end

-- Counts seconds in the bounds of a figure, and in its sum; what is no number of seconds is not counted.
local function observe(key, queue, figure, value)
  local seconds = tonumber(value or '')
  if not seconds or not (seconds >= 0 and seconds < 1e12) then
    return
  end
  local within = 'inf'
  for _, bound in ipairs(BOUNDS[figure]) do
    if seconds <= bound then
      within = bound
      break
    end
  end
  count(key, queue, figure .. ':' .. within)
  add_to(key, figure .. ':sum ' .. queue, string.format('%.3f', seconds))
end
