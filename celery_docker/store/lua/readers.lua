-- Lists the jobs whose output is read now, with the signs of life of their readers.
-- KEYS: index of the jobs that are read.
-- ARGV: what the keys of logs begin with, what those of their readers end with, seconds after which a job is not listed,
-- and after which it is forgotten.
-- Returns {{job id, reader, sign, reader, sign...}, ...}.
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[4]))
local rows = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now - tonumber(ARGV[3]), '+inf')) do
  local readers = ARGV[1] .. id .. ARGV[2]
  local row = redis.call('TYPE', readers).ok == 'hash' and redis.call('HGETALL', readers) or {}
  table.insert(row, 1, id)
  table.insert(rows, row)
end
return rows
