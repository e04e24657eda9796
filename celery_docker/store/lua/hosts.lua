-- Reads the hosts, those that were lost too, in one answer: their heartbeats, reports and numbers of jobs.
-- KEYS: hosts, lost hosts, drained hosts.  ARGV: what the keys of hosts begin with, and end with for reports and for jobs.
-- Returns a JSON list of the time and of each host {name, last heartbeat, 1 if it is lost, report, number of jobs, who
-- drained it}, false for what is not there or cannot be read. Each number is a text, so that none is rounded.
local time = redis.call('TIME')
local answer, present = {string.format('%.6f', time[1] + time[2] / 1000000)}, {}

local function value_of(value)
  return type(value) ~= 'table' and value
end

for place, lost in ipairs({0, 1}) do
  local hosts = redis.call('ZRANGE', KEYS[place], 0, -1, 'WITHSCORES')
  for i = 1, #hosts, 2 do
    local name = hosts[i]
    -- One that was recalled is in both.
    if not present[name] then
      present[name] = true
      answer[#answer + 1] = {name, hosts[i + 1], lost, value_of(redis.pcall('HGET', ARGV[1] .. name .. ARGV[2], 'about')),
        value_of(redis.pcall('SCARD', ARGV[1] .. name .. ARGV[3])), redis.call('HGET', KEYS[3], name)}
    end
  end
end
return cjson.encode(answer)
