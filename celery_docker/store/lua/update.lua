-- Adds fields to the record of a job that has not ended; only its owner may.
-- A record that Redis has lost is begun anew: the job runs on all the same.
-- KEYS: job, index, the host's jobs.
-- ARGV: host, fence, job id, queue list, envelope, then field, value, field, value...
-- Returns 1, or 0 for a host that is not the owner.
-- Includes lists.lua.
-- Includes record.lua.
local job = read_record(KEYS[1], 'owner', 'fence', 'receipt', 'state')
if not job[4] and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fence', ARGV[2], 'queue', ARGV[4], 'message', ARGV[5])
  list_live(KEYS[2], redis.call('TIME')[1], ARGV[3])
  redis.call('SADD', KEYS[3], ARGV[3])
elseif job[1] ~= ARGV[1] or job[2] ~= ARGV[2] or job[3] then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
return 1
