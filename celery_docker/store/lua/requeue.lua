-- Queues a job for a retry: the owner gives it back, with a delay by Redis' clock. A second call does nothing.
-- It leaves its share until then. A record that Redis has lost is begun anew.
-- KEYS: job, the host's jobs, delayed, index, waiting, shares, windows, counters.
-- ARGV: host, fence, job id, delay in seconds, envelope, exits, host faults, attempts, queue list, number of attempts,
-- prefix of the keys of records, prefix of the keys of shares.
-- Returns 1, or 0 for a host that is not the owner.
-- Includes share.lua.
-- Includes count.lua.
-- Includes lists.lua.
-- Ends here, before anything is written, where a key holds something else than it should: a second call does nothing.
redis.call('SCARD', KEYS[2])
redis.call('ZCARD', KEYS[3])
-- A key that holds something else is no record: it counts as lost.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
local job = redis.call('HMGET', KEYS[1], 'owner', 'fence', 'receipt', 'released', 'share')
if job[4] == ARGV[2] then
  return 1
end
local known = redis.call('EXISTS', KEYS[1]) == 1
if known and (job[1] ~= ARGV[1] or job[2] ~= ARGV[2] or job[3]) then
  return 0
end
if not known then
  list_live(KEYS[4], redis.call('TIME')[1], ARGV[3])
end
redis.call('HSET', KEYS[1], 'state', 'queued', 'owner', '', 'fence', ARGV[2], 'released', ARGV[2],
  'queue', ARGV[9], 'message', ARGV[5],
  'exits', ARGV[6], 'host_faults', ARGV[7], 'attempts', ARGV[8])
redis.call('HSETNX', KEYS[1], 'attempt', ARGV[10])
redis.call('SREM', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + ARGV[4], ARGV[3])
count(KEYS[8], counted_queue(KEYS[8], ARGV[9]), 'retried')
if job[5] then
  local at = {delayed = KEYS[3], waiting = KEYS[5], shares = KEYS[6], windows = KEYS[7], job = ARGV[11], share = ARGV[12]}
  leave(at, redis.call('TIME')[1], ARGV[3], job[5], ARGV[9])
end
return 1
