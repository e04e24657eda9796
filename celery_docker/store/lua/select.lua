-- Reads a part of a listing of jobs: those of an index or a batch that are wanted, in its order, behind a place in it.
-- Of jobs in some states it looks at the lists by state alone, if they are complete: the answer is the same, sooner. Those
-- of jobs that hosts have in hand are short. A batch has another order: of lists with few jobs all are looked for in it.
-- KEYS: the sorted set of jobs, the index with the lists by state in which they are too, the mark of these, hosts.
-- ARGV: prefix of the keys of records, beginning of the keys of hosts, ends of those of their reports and their jobs, 1 for
-- the highest scores first, score and id of the place ('' and '': the beginning), the most rows, the most jobs to look at, the
-- earliest submission of a job that is wanted ('': any), then as `wanted.lua` says.
-- Returns {1 if there are more jobs to look at, score and id of the last that it looked at ('' if none), how many it looked
-- at, JSON list of rows}, a row as a list of its id and the values.
-- Includes lists.lua.
-- Includes finalstates.lua.
-- Includes places.lua.
-- Includes wanted.lua.
local PORTION, MOST_SORTED, MOST_BYTES = 250, 2000, 1048576
local is_down, most_rows, most_looks = ARGV[5] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
local score, name, since = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[10])
read_wishes(11)

local function size(key)
  local count = redis.pcall('ZCARD', key)
  return type(count) == 'number' and count or nil
end

-- Tells whether there is a worker of an older version, which lists no ends; the mark may stand until another one sees it.
local function has_older_host()
  for _, host in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    local about = redis.pcall('HGET', ARGV[2] .. host .. ARGV[3], 'about')
    -- In a text within the report there would be a backslash before the second quote.
    local _, last = string.find(type(about) == 'string' and about or '', '"lists_ends":', 1, true)
    if not last or not string.find(about, '^ *true', last + 1) then
      return true
    end
  end
  return false
end

-- Tells whether each job of the index is in one list, that of its state.
local function is_complete()
  if redis.call('EXISTS', KEYS[3]) == 0 or has_older_host() then
    return false
  end
  local left = redis.call('ZCARD', KEYS[2]) - (size(list_key(KEYS[2], 'live')) or math.huge)
  for _, state in ipairs(FINAL) do
    left = left - (size(ended_key(KEYS[2], state)) or math.huge)
  end
  return left == 0
end

-- Returns the jobs that hosts have in hand; nil if they are many.
local function in_hand()
  local ids = {}
  for _, host in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    local key = ARGV[2] .. host .. ARGV[4]
    if redis.call('TYPE', key).ok == 'set' then
      if #ids + redis.call('SCARD', key) > MOST_SORTED then
        return nil
      end
      for _, id in ipairs(redis.call('SMEMBERS', key)) do
        ids[#ids + 1] = id
      end
    end
  end
  return ids
end

-- Returns the jobs of some lists; nil if they are many, or not fewer than the whole set.
local function listed(lists)
  local ids, most = {}, math.min(MOST_SORTED, redis.call('ZCARD', KEYS[1]))
  for _, key in ipairs(lists) do
    if #ids + size(key) > most then
      return nil
    end
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      ids[#ids + 1] = id
    end
  end
  return ids
end

-- Returns those of some jobs that are in the set behind the place, in its order.
local function entries_of(ids)
  local entries, seen = {}, {}
  for i, at in ipairs(#ids > 0 and redis.call('ZMSCORE', KEYS[1], unpack(ids)) or {}) do
    local place = at and tonumber(at)
    if place and not seen[ids[i]] and (name == '' or comes_before(score, name, place, ids[i], is_down)) then
      seen[ids[i]] = true
      entries[#entries + 1] = {place, ids[i], at}
    end
  end
  table.sort(entries, function(a, b) return comes_before(a[1], a[2], b[1], b[2], is_down) end)
  return entries
end

-- A source has entries, {score, id, score as text}, and if it is a sorted set, a key and the rank of what comes next.
local function sorted_set(key)
  return {key = key, rank = rank_behind(key, score, name, is_down), entries = {}, at = 1}
end

local function sources_of(states)
  if not states then
    return {sorted_set(KEYS[1])}
  end
  local lists, is_in_hand, is_live = {}, true, false
  for _, state in ipairs(FINAL) do
    if states[state] then
      lists[#lists + 1], is_in_hand = ended_key(KEYS[2], state), false
    end
  end
  for _, state in ipairs({'queued', 'starting', 'running'}) do
    is_live = is_live or states[state]
  end
  local ids = is_in_hand and not states.queued and in_hand()
  if ids then
    return {{entries = entries_of(ids), at = 1}}
  end
  if not is_complete() then
    return {sorted_set(KEYS[1])}
  end
  if is_live then
    lists[#lists + 1] = list_key(KEYS[2], 'live')
  end
  if KEYS[1] ~= KEYS[2] then
    ids = listed(lists)
    return {ids and {entries = entries_of(ids), at = 1} or sorted_set(KEYS[1])}
  end
  local sources = {}
  for i, key in ipairs(lists) do
    sources[i] = sorted_set(key)
  end
  return sources
end

-- Returns the next entry of a source, nil behind the last.
local function head(source)
  if source.key and not source.entries[source.at] then
    local flat = entries_from(source.key, source.rank, PORTION, is_down)
    source.entries, source.at = {}, 1
    for i = 1, #flat, 2 do
      source.entries[#source.entries + 1] = {tonumber(flat[i + 1]), flat[i], flat[i + 1]}
    end
    source.rank = source.rank + #source.entries
    if #source.entries == 0 then
      source.key = nil
    end
  end
  return source.entries[source.at]
end

-- Returns the source of the entry that comes next, nil behind the last.
local function first_of(sources)
  local first
  for _, source in ipairs(sources) do
    local entry, before = head(source), first and head(first)
    if entry and (not before or comes_before(entry[1], entry[2], before[1], before[2], is_down)) then
      first = source
    end
  end
  -- An index has its jobs by the time at which they were submitted, or first seen; a batch has them by their number.
  if first and since and is_down and KEYS[1] == KEYS[2] and head(first)[1] < since then
    return nil
  end
  return first
end

local function is_recent(key)
  return not since or (tonumber(redis.call('HGET', key, 'submitted_at')) or 0) >= since
end

local sources, rows, bytes, last, looks = sources_of(wanted_states), {}, 0, {'', '', ''}, 0
local source = first_of(sources)
while source and #rows < most_rows and bytes < MOST_BYTES and looks < most_looks do
  last, looks = head(source), looks + 1
  source.at = source.at + 1
  local key = ARGV[1] .. last[2]
  local kind = redis.call('TYPE', key).ok
  if is_wanted(kind, key) and (kind ~= 'hash' or is_recent(key)) then
    local row = row_of(kind, key)
    for _, value in ipairs(row) do
      bytes = bytes + (value and #value or 0)
    end
    table.insert(row, 1, last[2])
    rows[#rows + 1] = row
  end
  source = first_of(sources)
end
return {source and 1 or 0, last[3], last[2], looks, #rows > 0 and cjson.encode(rows) or '[]'}
