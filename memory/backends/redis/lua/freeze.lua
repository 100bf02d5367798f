-- Stop writes of vectors in a tag while the store changes its space.
--
-- KEYS: state, keys, index. ARGV: epoch, number, dimension and embedder of the space as it is, number of the next.
-- Answer: how many records have no vector in the next space.
redis.call('HSET', KEYS[1], 'frozen', ARGV[1], 'number', ARGV[2], 'dimension', ARGV[3], 'embedder', ARGV[4])
return redis.call('ZCARD', KEYS[2]) - redis.call('ZLEXCOUNT', KEYS[3], '[v' .. ARGV[5], '(v' .. ARGV[5] .. '\255')
