-- Let a tag follow the space of the store.
--
-- KEYS: state. ARGV: the epoch that has frozen it, then number, dimension and embedder of the space ('' for none).
if redis.call('HGET', KEYS[1], 'frozen') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'frozen')
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[1], 'number', ARGV[2], 'dimension', ARGV[3], 'embedder', ARGV[4])
  end
  if redis.call('HGET', KEYS[1], 'next') == ARGV[2] then
    redis.call('HDEL', KEYS[1], 'next')
  end
end
return 1
