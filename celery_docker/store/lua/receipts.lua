-- Reads the receipts of some jobs.
-- Returns each as it was written, empty for a job that has not ended.
-- ARGV: prefix of the keys of records, then job ids.
local receipts = {}
for i = 2, #ARGV do
  receipts[i - 1] = ''
  if redis.call('TYPE', ARGV[1] .. ARGV[i]).ok == 'hash' then
    receipts[i - 1] = redis.call('HGET', ARGV[1] .. ARGV[i], 'receipt') or ''
  end
end
return receipts
