-- A message that a host took cannot be read: it is put aside, once. Where its job has an id, the message that stands for
-- it takes its place, so that the job ends and its client is told. The oldest that was put aside makes room.
-- KEYS: the host's list of taken messages, refused messages, their texts, their count.
-- ARGV: the message as it was taken, what takes its place ('' for nothing), what is known of it as JSON without its
-- end, the most messages that are kept, the most bytes that are kept of a text.
-- Returns its number, 0 if it is not there any more.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
if ARGV[2] ~= '' then
  redis.call('LPUSH', KEYS[1], ARGV[2])
end
for i = 2, 4 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= (i == 4 and 'string' or 'hash') then
    redis.call('DEL', KEYS[i])
  end
end
local number = tonumber(redis.call('GET', KEYS[4]) or 0) or 0
number = number % 9007199254740991 + 1
redis.call('SET', KEYS[4], string.format('%.0f', number))
local size, most = #ARGV[1], tonumber(ARGV[5])
local is_whole = size <= most and 'true' or 'false'
redis.call('HSET', KEYS[2], number, string.format('%s,"refused_at":%s,"bytes":%d,"whole":%s}', ARGV[3],
  redis.call('TIME')[1], size, is_whole))
if size <= most then
  redis.call('HSET', KEYS[3], number, ARGV[1])
end
local old = string.format('%.0f', number - tonumber(ARGV[4]))
redis.call('HDEL', KEYS[2], old)
redis.call('HDEL', KEYS[3], old)
return number
