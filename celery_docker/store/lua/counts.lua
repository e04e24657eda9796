-- Counts a part of the jobs of a batch in each state.
-- KEYS: the batch's jobs.  ARGV: prefix of the keys of records, first and last rank.
-- Returns {state, count, state, count...}.
local counts, flat = {}, {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])) do
  local kind = redis.call('TYPE', ARGV[1] .. id).ok
  local state = kind ~= 'none' and 'broken'
  if kind == 'hash' then
    state = redis.call('HGET', ARGV[1] .. id, 'state')
  end
  if state then
    counts[state] = (counts[state] or 0) + 1
  end
end
for state, count in pairs(counts) do
  flat[#flat + 1] = state
  flat[#flat + 1] = count
end
return flat
