-- Part of other scripts, which take it in by naming it: places in sorted sets. A place is a score and a name; the sets are
-- read by (score, name), from the highest if `is_down`, and a place stays what it is when its entry is gone.
local function at_byte(a, b)
  for i = 1, math.min(#a, #b) do
    if string.byte(a, i) ~= string.byte(b, i) then
      return string.byte(a, i) - string.byte(b, i)
    end
  end
  return #a - #b
end

-- Redis orders names by their bytes; `<` in Lua does by the language of the server.
local function comes_before(score, name, other_score, other_name, is_down)
  local difference = score - other_score
  if difference == 0 then
    difference = at_byte(name, other_name)
  end
  if is_down then
    return difference > 0
  end
  return difference < 0
end

-- Returns entries of a sorted set from a rank on, as name, score, name, score...
local function entries_from(key, rank, count, is_down)
  if is_down then
    return redis.call('ZRANGE', key, rank, rank + count - 1, 'REV', 'WITHSCORES')
  end
  return redis.call('ZRANGE', key, rank, rank + count - 1, 'WITHSCORES')
end

-- Returns the rank of the first entry behind a place; the name is '' for the beginning.
local function rank_behind(key, score, name, is_down)
  if name == '' then
    return 0
  end
  local low, high = 0, redis.call('ZCARD', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = entries_from(key, middle, 1, is_down)
    if comes_before(score, name, tonumber(entry[2]), entry[1], is_down) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end
