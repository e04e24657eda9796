-- Reads which jobs are next in a queue, without those that have an end request: their messages are dropped when it is
-- their turn. It stops after so many messages, and after so many bytes of them. A key that holds something else, as a
-- damaged record may name one, has none.
-- KEYS: the queue's lists in the order in which they are served.
-- ARGV: most messages, most bytes, prefix of the keys of records.
-- Returns {1 if that is all of them, otherwise 0, the time, job id, job id...}, '' for a message without one.
local AT_ONCE = 20
local time = redis.call('TIME')
local answer, count, bytes = {1, string.format('%.6f', time[1] + time[2] / 1000000)}, 0, 0

local function job_id(message)
  -- The body before it is base64, without a quotation mark.
  local _, finish = string.find(message, '"id": ?"')
  return finish and string.match(message, '^[^"]*', finish + 1) or ''
end

for _, list in ipairs(KEYS) do
  local last = -1
  while redis.call('TYPE', list).ok == 'list' do
    local messages = redis.call('LRANGE', list, last - AT_ONCE + 1, last)
    for i = #messages, 1, -1 do
      if count >= tonumber(ARGV[1]) or bytes > tonumber(ARGV[2]) then
        answer[1] = 0
        return answer
      end
      count, bytes = count + 1, bytes + #messages[i]
      local id = job_id(messages[i])
      if redis.pcall('HEXISTS', ARGV[3] .. id, 'cancelled_at') ~= 1 then
        answer[#answer + 1] = id
      end
    end
    if #messages < AT_ONCE then
      break
    end
    last = last - AT_ONCE
  end
end
return answer
