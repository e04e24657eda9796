-- Reads some fields of some jobs in one answer: a client reads one long text much faster than many short ones.
-- ARGV: prefix of the keys of records, then as `wanted.lua` says, then job ids.
-- Returns a JSON list with a list of values for each job, false for a missing field; false for a job that is not wanted.
-- Includes wanted.lua.
local rows = {}
for i = read_wishes(2), #ARGV do
  local key = ARGV[1] .. ARGV[i]
  local kind = redis.call('TYPE', key).ok
  rows[#rows + 1] = (#conditions == 0 or is_wanted(kind, key)) and row_of(kind, key)
end
return cjson.encode(rows)
