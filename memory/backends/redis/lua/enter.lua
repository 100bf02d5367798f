-- Make a tag ready for writes: its mark, and its copy of the store's space.
--
-- KEYS: state. ARGV: number, dimension and embedder of the space ('' for none), how many fields
-- there are, '1' where the store keeps a feed, the version that the next one has to be above.
-- Answer: the mark, and the epoch of a switch under way or ''.
redis.call('HSETNX', KEYS[1], 'mark', '0')
local held = redis.call('HMGET', KEYS[1], 'mark', 'number', 'frozen')
if ARGV[6] and tonumber(ARGV[6]) > tonumber(held[1]) then
  redis.call('HSET', KEYS[1], 'mark', ARGV[6])
  held[1] = ARGV[6]
end
if ARGV[4] and tonumber(ARGV[4]) > tonumber(redis.call('HGET', KEYS[1], 'fields') or '0') then
  redis.call('HSET', KEYS[1], 'fields', ARGV[4])
end
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], 'feed', '1')
end
if ARGV[1] ~= '' and not held[2] and not held[3] then
  redis.call('HSET', KEYS[1], 'number', ARGV[1], 'dimension', ARGV[2], 'embedder', ARGV[3])
end
return {held[1], held[3] or ''}
