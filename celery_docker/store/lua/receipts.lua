-- The receipts of some jobs, which are JSON already, as one JSON list; null for a job that has not ended.
-- ARGV: what the keys of records begin with, then job ids.
local found = {}
for i = 2, #ARGV do
  found[i - 1] = redis.call('HGET', ARGV[1] .. ARGV[i], 'receipt') or 'null'
end
return '[' .. table.concat(found, ',') .. ']'
