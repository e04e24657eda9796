-- Takes one message for a host: it moves from its queue to the host's list in one step, so that it is always in one of
-- them. After a reconnect, the messages that the host took and never claimed go back to their queues first.
-- KEYS: the host's sources, then the queue lists in the order in which they are to be served.
-- ARGV: prefix of the host's lists of taken messages, 1 after a reconnect.
-- Returns {list, message}, or false if all of them are empty.
if ARGV[2] == '1' then
  for i = 2, #KEYS do
    redis.call('SADD', KEYS[1], KEYS[i])
  end
  for _, source in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    -- The newest first, so that the oldest is the next to be served.
    while redis.call('LMOVE', ARGV[1] .. source, source, 'LEFT', 'RIGHT') do end
  end
end
for i = 2, #KEYS do
  local message = redis.call('LMOVE', KEYS[i], ARGV[1] .. KEYS[i], 'RIGHT', 'LEFT')
  if message then
    return {KEYS[i], message}
  end
end
return false
