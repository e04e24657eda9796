-- Reads the receipts of some jobs. They are JSON already.
-- Returns them as one JSON list, null for a job that has not ended.
-- ARGV: prefix of the keys of records, then job ids.
local receipts = {}
for i = 2, #ARGV do
  receipts[i - 1] = redis.call('HGET', ARGV[1] .. ARGV[i], 'receipt') or 'null'
end
return '[' .. table.concat(receipts, ',') .. ']'
