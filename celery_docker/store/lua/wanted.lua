-- Part of other scripts, which take it in by naming it: rows of jobs, and which jobs a listing wants. What it reads of ARGV,
-- from a place on: the number of fields of a row, the fields, the number of conditions, and for each condition its field,
-- the number of values that are wanted, and these.
local fields, conditions, wanted_states = {}, {}, nil

-- Returns the place behind it.
local function read_wishes(place)
  for i = 1, tonumber(ARGV[place]) do
    fields[i] = ARGV[place + i]
  end
  place = place + #fields + 1
  local count = tonumber(ARGV[place])
  place = place + 1
  for i = 1, count do
    local values, size = {}, tonumber(ARGV[place + 1])
    for value = place + 2, place + 1 + size do
      values[ARGV[value]] = true
    end
    conditions[i] = {field = ARGV[place], values = values}
    if ARGV[place] == 'state' then
      wanted_states = values
    end
    place = place + 2 + size
  end
  return place
end

local function is_wanted(kind, key)
  if #conditions == 0 then
    return kind ~= 'none'
  end
  if kind ~= 'hash' then
    return false
  end
  for _, condition in ipairs(conditions) do
    local value = redis.call('HGET', key, condition.field)
    if not value or not condition.values[value] then
      return false
    end
  end
  return true
end

-- What a newer version calls the end of a job is not known here; its receipt tells that it is one.
local KNOWN = {}
for state in string.gmatch('queued starting running succeeded failed timed_out expired cancelled rejected error lost', '%S+') do
  KNOWN[state] = true
end

-- Returns the fields of a record, false for a missing one.
local function row_of(kind, key)
  local row = {}
  if kind == 'hash' then
    row = redis.call('HMGET', key, unpack(fields))
  end
  for place, field in ipairs(fields) do
    row[place] = row[place] or false
    if field == 'state' and kind ~= 'hash' and kind ~= 'none' then
      row[place] = 'broken'
    elseif field == 'state' and row[place] and not KNOWN[row[place]] and row[place] ~= 'broken' then
      row[place] = row[place] .. (redis.call('HEXISTS', key, 'receipt') == 1 and ' (ended)' or '')
    end
  end
  return row
end
