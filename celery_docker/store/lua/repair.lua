-- Puts away shared keys that hold something else than they should, so that a new one can take their place.
-- KEYS: any number of keys.  ARGV: the type that each should have.
-- Returns the keys that were put away; each is kept under its name and ':broken'.
local repaired = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= ARGV[i] then
    redis.call('RENAME', key, key .. ':broken')
    repaired[#repaired + 1] = key
  end
end
return repaired
