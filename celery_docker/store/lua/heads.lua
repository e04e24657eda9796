-- Reads which jobs are next in a queue. It stops after so many messages, and after so many bytes of them.
-- KEYS: the queue's lists in the order in which they are served.  ARGV: most messages, most bytes.
-- Returns {1 if that is all of them, otherwise 0, job id, job id...}, '' for a message without one.
local AT_ONCE = 20
local answer, bytes = {1}, 0
for _, list in ipairs(KEYS) do
  local last = -1
  while true do
    local messages = redis.call('LRANGE', list, last - AT_ONCE + 1, last)
    for i = #messages, 1, -1 do
      if #answer > tonumber(ARGV[1]) or bytes > tonumber(ARGV[2]) then
        answer[1] = 0
        return answer
      end
      -- The body before it is base64, without a quotation mark.
      local _, finish = string.find(messages[i], '"id": ?"')
      answer[#answer + 1] = finish and string.match(messages[i], '^[^"]*', finish + 1) or ''
      bytes = bytes + #messages[i]
    end
    if #messages < AT_ONCE then
      break
    end
    last = last - AT_ONCE
  end
end
return answer
