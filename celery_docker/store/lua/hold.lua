-- Elects the one host that takes over the jobs of lost hosts, for some seconds.
-- KEYS: the elected host.  ARGV: host, seconds.
-- Returns 1 if it is this host.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
