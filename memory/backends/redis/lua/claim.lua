-- The space of a store: made by the first vector, else as it is.
--
-- KEYS: space. ARGV: dimension and embedder. Answer: number, dimension, embedder, epoch of a switch under way or ''.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'number', '0001', 'dimension', ARGV[1], 'embedder', ARGV[2], 'last', '1')
end
local held = redis.call('HMGET', KEYS[1], 'number', 'dimension', 'embedder', 'pending')
return {held[1], held[2], held[3], held[4] or ''}
