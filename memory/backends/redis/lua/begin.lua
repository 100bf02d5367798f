-- Begin the change to the space aside.
--
-- KEYS: space. ARGV: epoch, dimension and embedder. Answer: the old number and the new one; Z when another change is
-- pending, '' when this is not the space aside.
local held = redis.call('HMGET', KEYS[1], 'number', 'next', 'next_dimension', 'next_embedder', 'pending')
if held[5] then
  return 'Z'
end
if not held[1] or held[3] ~= ARGV[2] or held[4] ~= ARGV[3] then
  return ''
end
redis.call('HSET', KEYS[1], 'pending', ARGV[1])
return {held[1], held[2]}
