-- Part of other scripts, which take it in by naming it: the messages that a host took and did not claim go back to their
-- queue lists. A key of the host's that holds something else than it should counts as lost.
local function holds(kind, key)
  local held = redis.call('TYPE', key).ok
  return held == kind or held == 'none'
end

local function lose_unless(kind, key)
  if not holds(kind, key) then
    redis.call('DEL', key)
  end
end

-- The newest first, so that the oldest is the next to be served. `sources` is the key of the lists that the host took
-- from, `prefix` that of its own ones. Returns whether all went back: what is no list takes none.
local function put_back(sources, prefix)
  local is_all = true
  lose_unless('set', sources)
  for _, source in ipairs(redis.call('SMEMBERS', sources)) do
    lose_unless('list', prefix .. source)
    if holds('list', source) then
      while redis.call('LMOVE', prefix .. source, source, 'LEFT', 'RIGHT') do end
    elseif redis.call('EXISTS', prefix .. source) == 1 then
      is_all = false
    end
  end
  return is_all
end
