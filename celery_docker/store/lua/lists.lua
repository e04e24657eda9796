-- Part of other scripts, which take it in by naming it: the lists of jobs by state. Beside an index of jobs, which is
-- called BEGINNINGjobs, lie BEGINNINGlive with those of its jobs that have not ended, and BEGINNINGended:STATE for each state
-- in which a job ends. A job has the same score in all of them: its place does not change when it ends, so that who reads
-- page by page, over several lists, meets each job once.
-- They are made of the records, and can be made again: a list that cannot be written is left alone.
local function list_key(index, name)
  return string.sub(index, 1, -5) .. name
end

local function ended_key(index, state)
  return list_key(index, 'ended:' .. state)
end

local function list_live(index, at, id)
  redis.call('ZADD', index, at, id)
  redis.pcall('ZADD', list_key(index, 'live'), at, id)
end

-- A job that the index has lost is in no list.
local function list_ended(index, id, state)
  redis.pcall('ZREM', list_key(index, 'live'), id)
  local at = redis.pcall('ZSCORE', index, id)
  if type(at) == 'string' then
    redis.pcall('ZADD', ended_key(index, state), at, id)
  end
end
