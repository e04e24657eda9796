-- Reads the entries of a sorted set behind a place in it.
-- KEYS: the sorted set. ARGV: score and name of the place ('' and '': the beginning), the most entries, 1 for the highest
-- scores first.
-- Returns name, score, name, score...
-- Includes places.lua.
local is_down = ARGV[4] == '1'
return entries_from(KEYS[1], rank_behind(KEYS[1], tonumber(ARGV[1]), ARGV[2], is_down), tonumber(ARGV[3]), is_down)
