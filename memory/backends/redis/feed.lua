-- Events of the feed, at one moment.
--
-- KEYS: feed, counter. ARGV: where to begin, how many ('0' for none). Answer: head, the oldest event's id or '', events.
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local events = {}
if ARGV[2] ~= '0' then
  events = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
end
return {redis.call('GET', KEYS[2]) or '0', oldest and oldest[1] or '', events}
