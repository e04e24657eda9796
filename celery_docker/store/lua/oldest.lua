-- Reads since when the next message of each queue list has waited there. It stops after so many bytes of messages. A key
-- that holds something else has none.
-- KEYS: the lists, then the jobs that wait.  ARGV: most bytes.
-- Returns the time for each list, '' where it is empty, or where nobody knows.
local answer, bytes = {}, 0

for place = 1, #KEYS - 1 do
  local at = false
  local message = bytes <= tonumber(ARGV[1]) and redis.pcall('LINDEX', KEYS[place], -1)
  if type(message) == 'string' then
    bytes = bytes + #message
    -- The body before it is base64, without a quotation mark.
    local _, finish = string.find(message, '"id": ?"')
    local id = finish and string.match(message, '^[^"]*', finish + 1)
    at = id and redis.pcall('ZSCORE', KEYS[#KEYS], id)
  end
  answer[place] = type(at) == 'string' and at or ''
end
return answer
