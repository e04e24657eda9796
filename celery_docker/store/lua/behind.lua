-- Reads the entries of a sorted set behind a place in it, the highest scores first.
-- KEYS: the sorted set. ARGV: score and name of the place ('' and '': the beginning), the most entries.
-- Returns name, score, name, score...
-- Includes places.lua.
return entries_from(KEYS[1], rank_behind(KEYS[1], tonumber(ARGV[1]), ARGV[2], true), tonumber(ARGV[3]), true)
