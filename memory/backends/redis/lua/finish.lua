-- End a change: for good (the one write by which all vectors of the store are others), or not at all.
--
-- KEYS: space. ARGV: epoch, 1 to change. Answer: 1 when it was changed.
if redis.call('HGET', KEYS[1], 'pending') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'pending')
if ARGV[2] ~= '1' then
  return 0
end
local held = redis.call('HMGET', KEYS[1], 'next', 'next_dimension', 'next_embedder')
redis.call('HSET', KEYS[1], 'number', held[1], 'dimension', held[2], 'embedder', held[3])
redis.call('HDEL', KEYS[1], 'next', 'next_dimension', 'next_embedder')
return 1
