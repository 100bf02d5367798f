-- The number of the space aside, made anew for another space than the last one.
--
-- KEYS: space. ARGV: dimension and embedder. Answer: its number, and that of the space it takes the place of, or ''.
local held = redis.call('HMGET', KEYS[1], 'next', 'next_dimension', 'next_embedder')
if held[1] and held[2] == ARGV[1] and held[3] == ARGV[2] then
  return {held[1], ''}
end
local number = string.format('%04d', redis.call('HINCRBY', KEYS[1], 'last', 1))
redis.call('HSET', KEYS[1], 'next', number, 'next_dimension', ARGV[1], 'next_embedder', ARGV[2])
return {number, held[1] or ''}
