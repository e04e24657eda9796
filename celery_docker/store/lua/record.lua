-- Part of other scripts, which take it in by naming it: a record is read once, in one piece.
-- Returns the values of fields. A key that holds something else is no record: it counts as lost.
local function read_record(key, ...)
  local values = redis.pcall('HMGET', key, ...)
  if values.err then
    redis.call('DEL', key)
    return {}
  end
  return values
end
