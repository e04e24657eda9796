-- Reads some fields of some jobs in one answer: a client reads one long text much faster than many short ones.
-- ARGV: prefix of the keys of records, the number of fields, the fields, then job ids.
-- Returns a JSON list with a list of values for each job, false for a missing field.
local fields, rows, count = {}, {}, tonumber(ARGV[2])
for i = 1, count do
  fields[i] = ARGV[2 + i]
end
-- What a newer version calls the end of a job is not known here; its receipt tells that it is one.
local KNOWN = {}
for state in string.gmatch('queued starting running succeeded failed timed_out expired cancelled rejected error lost', '%S+') do
  KNOWN[state] = true
end

local function row_of(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    return redis.call('HMGET', key, unpack(fields))
  end
  local row = {}
  for i = 1, count do
    row[i] = kind ~= 'none' and fields[i] == 'state' and 'broken'
  end
  return row
end

for i = 3 + count, #ARGV do
  local key = ARGV[1] .. ARGV[i]
  local row = row_of(key)
  for place = 1, count do
    if fields[place] == 'state' and row[place] and not KNOWN[row[place]] and row[place] ~= 'broken' then
      row[place] = row[place] .. (redis.call('HEXISTS', key, 'receipt') == 1 and ' (ended)' or '')
    end
  end
  rows[#rows + 1] = row
end
return cjson.encode(rows)
