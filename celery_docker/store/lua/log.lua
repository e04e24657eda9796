-- Appends output to a job's live log, sent by the owner. Bytes that are in the log already are passed over: a new
-- worker process reads a container's output from the beginning and sends it again. Of too much output the oldest is
-- dropped, unless a reader has not acknowledged it: then the log grows up to a second bound, at which nothing is stored.
-- KEYS: job, log, readers.
-- ARGV: host, fence, attempt, the most bytes, the most entries, seconds to keep it, the second bound in bytes and in
-- entries, the readers that are gone, separated by commas,
-- then stream, offset, data, stream, offset, data... (the offset is that of the first byte in the attempt's stream).
-- Returns {1, reader, sign, reader, sign...}; the first is 2 if nothing was stored because the log is full, and 0 for a
-- host that is not the owner, and after the job's end. A sign is the last entry that a reader has acknowledged, a space
-- and a number.
-- Includes record.lua.
local job = read_record(KEYS[1], 'owner', 'fence', 'receipt', 'log_attempt', 'log_bytes', 'log_1', 'log_2')
local attempt, known = tonumber(ARGV[3]), tonumber(job[4]) or 0
if redis.call('TYPE', KEYS[2]).ok ~= 'stream' and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('DEL', KEYS[2])
end
if job[1] ~= ARGV[1] or job[2] ~= ARGV[2] or job[3] or attempt < known then
  return {0}
end
local ends = {0, 0}
if attempt == known then
  ends = {tonumber(job[6]) or 0, tonumber(job[7]) or 0}
end
local total = 0
if redis.call('EXISTS', KEYS[2]) == 1 then
  total = tonumber(job[5]) or 0
end

local function is_later(entry, other)
  local ms, number = string.match(entry, '(%d+)-(%d+)')
  local other_ms, other_number = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(number) > tonumber(other_number)
end

for reader in string.gmatch(ARGV[9], '[^,]+') do
  if redis.call('TYPE', KEYS[3]).ok == 'hash' then
    redis.call('HDEL', KEYS[3], reader)
  end
end
local signs = redis.call('TYPE', KEYS[3]).ok == 'hash' and redis.call('HGETALL', KEYS[3]) or {}
local acknowledged = nil
for i = 2, #signs, 2 do
  local entry = string.match(signs[i], '^%d+-%d+')
  if entry and (not acknowledged or is_later(acknowledged, entry)) then
    acknowledged = entry
  end
end

local function trim()
  while redis.call('XLEN', KEYS[2]) > 0
    and (total > tonumber(ARGV[4]) or redis.call('XLEN', KEYS[2]) > tonumber(ARGV[5])) do
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    if acknowledged and is_later(oldest[1], acknowledged) then
      return
    end
    redis.call('XDEL', KEYS[2], oldest[1])
    total = total - #(oldest[2][8] or '')
  end
end

trim()
local stored = 2
if not acknowledged or (total < tonumber(ARGV[7]) and redis.call('XLEN', KEYS[2]) < tonumber(ARGV[8])) then
  stored = 1
  for i = 10, #ARGV, 3 do
    local stream, offset, data = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2]
    local passed = math.max(0, ends[stream] - offset)
    if passed < #data then
      data = string.sub(data, passed + 1)
      offset = offset + passed
      redis.call('XADD', KEYS[2], '*', 'stream', stream, 'attempt', attempt, 'offset', offset, 'data', data)
      total = total + #data
      ends[stream] = offset + #data
    end
  end
  trim()
end
redis.call('HSET', KEYS[1], 'log_attempt', attempt, 'log_bytes', total, 'log_1', ends[1], 'log_2', ends[2])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return {stored, unpack(signs)}
