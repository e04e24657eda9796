-- Part of other scripts, which take it in by naming it: the shares of submitters. A share is the jobs of one submitter in one
-- queue list that ask for about as much. So many of them are published at a time as the list's window says; the others
-- stand in the share's line, by the time of their submission. They are in `delayed` too: where a line is lost, or only
-- workers of an older version are left, each is published when its time there has come.
-- `at` has the keys `delayed`, `waiting`, `shares` and `windows`, and the prefixes of the keys of records (`job`) and of
-- shares (`share`).
local LOOK_AGAIN_S, SPREAD_S, A_SECOND = 90, 30, 200

local function share_keys(at, share)
  return at.share .. share .. ':published', at.share .. share .. ':held'
end

-- Counts the jobs of a sorted set. A key that holds something else counts as lost.
local function size(key)
  local count = redis.pcall('ZCARD', key)
  if type(count) == 'table' then
    redis.call('DEL', key)
    return 0
  end
  return count
end

-- Returns nil where no worker has said how large the window is: then nobody would let go what is held back.
local function window_of(at, list)
  local window = tonumber(redis.call('HGET', at.windows, list) or '')
  return window and window >= 1 and window or nil
end

-- Returns 1, or 0 while the queue's key holds no list: then the job waits for a republish.
local function push(at, now, id, list, message)
  redis.call('ZADD', at.waiting, now, id)
  local reply = redis.pcall('LPUSH', list, message)
  if type(reply) ~= 'table' then
    return 1
  end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then
    error(reply.err)
  end
  return 0
end

-- Publishes a queued job, or holds it back while its share is full or has others before it. Returns 1 or 0.
local function publish_in_turn(at, now, id, list, message, share, submitted_at)
  local window = share and window_of(at, list)
  if not window then
    return push(at, now, id, list, message)
  end
  local published, held = share_keys(at, share)
  local before = size(held)
  local places = before == 0 and window - size(published) or 0
  if before > 0 or places < 1 or places >= window then
    redis.call('HSET', at.shares, share, list)
  end
  if places >= 1 then
    redis.call('ZADD', published, now, id)
    return push(at, now, id, list, message)
  end
  local order = tonumber(submitted_at or '')
  redis.call('ZADD', held, order and order == order and order or now, id)
  redis.call('HSET', at.job .. id, 'over_share', '1')
  -- Spread, so that no more than some hundreds come up in a second.
  redis.call('ZADD', at.delayed, now + LOOK_AGAIN_S + before / A_SECOND + now % 0.001 * 1000 * SPREAD_S, id)
  return 0
end

-- Publishes jobs of a share's line while there is room for them; looks at so many at most. Returns how many it published.
local function release(at, now, share, list, most)
  local published, held = share_keys(at, share)
  local most_now = math.min(most, size(held))
  if most_now == 0 then
    return 0
  end
  local room, count = (window_of(at, list) or math.huge) - size(published), 0
  for _ = 1, most_now do
    local id = count < room and redis.call('ZPOPMIN', held)[1]
    if not id then
      break
    end
    local key, job = at.job .. id, {}
    if redis.call('TYPE', key).ok == 'hash' then
      job = redis.call('HMGET', key, 'state', 'queue', 'message', 'over_share', 'cancelled_at')
    end
    if job[1] == 'queued' and job[2] and job[3] and job[4] and not job[5] then
      redis.call('HDEL', key, 'over_share')
      -- A worker of an older version may have published it from `delayed`.
      if redis.call('ZSCORE', at.delayed, id) or not redis.call('ZSCORE', at.waiting, id) then
        redis.call('ZADD', published, now, id)
        push(at, now, id, job[2], job[3])
        redis.call('ZREM', at.delayed, id)
        count = count + 1
      end
    end
  end
  return count
end

-- Takes a job out of its share; the next of its line has its place.
local function leave(at, now, id, share, list)
  local published, held = share_keys(at, share)
  if size(published) > 0 then
    redis.call('ZREM', published, id)
  end
  if size(held) > 0 then
    redis.call('ZREM', held, id)
    release(at, now, share, list, 100)
  end
end
