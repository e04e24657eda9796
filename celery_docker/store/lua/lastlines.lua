-- Returns the end of what some jobs have printed: of each that has ended the end of its receipt, of others the latest
-- entries of the live log. Changes nothing.
-- KEYS: the record of a job and its live log, the record of the next...
-- ARGV: the most bytes of a receipt and of an entry, the most entries.
-- Returns for each job {end of its receipt or '', stream, data, stream, data...}, the latest entry first.
local rows = {}
for i = 1, #KEYS, 2 do
  local receipt = redis.call('TYPE', KEYS[i]).ok == 'hash' and redis.call('HGET', KEYS[i], 'receipt') or ''
  local row = {string.sub(receipt, -tonumber(ARGV[1]))}
  if receipt == '' and redis.call('TYPE', KEYS[i + 1]).ok == 'stream' then
    for _, entry in ipairs(redis.call('XREVRANGE', KEYS[i + 1], '+', '-', 'COUNT', ARGV[2])) do
      local values = {}
      for j = 1, #entry[2], 2 do
        values[entry[2][j]] = entry[2][j + 1]
      end
      row[#row + 1] = values.stream or ''
      row[#row + 1] = string.sub(values.data or '', -tonumber(ARGV[1]))
    end
  end
  rows[#rows + 1] = row
end
return rows
