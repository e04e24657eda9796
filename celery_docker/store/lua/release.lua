-- Ends a host's reservation for a parked job; another host's is left alone.
-- KEYS: the reservation.  ARGV: host.
-- Returns the number of reservations that have ended.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
