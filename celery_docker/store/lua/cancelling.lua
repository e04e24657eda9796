-- Lists jobs with an end request that have not ended: all that a host has in hand, and some of all others. These are
-- drawn by lot: two hosts that end the jobs of one batch seldom draw the same, and the cost is that of those listed.
-- KEYS: cancelling, the host's jobs.  ARGV: prefix of the keys of records, the most to draw.
local ids, listed = {}, {}

local function list(names)
  for _, id in ipairs(names) do
    if redis.call('TYPE', ARGV[1] .. id).ok ~= 'hash' then
      redis.call('SREM', KEYS[1], id)
    elseif not listed[id] then
      listed[id] = true
      ids[#ids + 1] = id
    end
  end
end

local owned = redis.pcall('SINTER', KEYS[1], KEYS[2])
-- A key that holds something else says nothing.
list(owned.err and {} or owned)
list(redis.call('SRANDMEMBER', KEYS[1], ARGV[2]))
return ids
