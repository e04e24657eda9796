-- Reads some fields of some jobs in one answer: a client reads one long text much faster than many short ones.
-- ARGV: prefix of the keys of records, the number of fields, the fields, then job ids.
-- Returns a JSON list with a list of values for each job, false for a missing field.
local fields, rows, count = {}, {}, tonumber(ARGV[2])
for i = 1, count do
  fields[i] = ARGV[2 + i]
end
for i = 3 + count, #ARGV do
  rows[#rows + 1] = redis.call('HMGET', ARGV[1] .. ARGV[i], unpack(fields))
end
return cjson.encode(rows)
