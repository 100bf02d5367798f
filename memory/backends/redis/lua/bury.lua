-- Remove tombstones that are old enough.
--
-- KEYS: index, then the records. ARGV: for each its time and key.
for i = 2, #KEYS do
  local at, key = ARGV[2 * i - 3], ARGV[2 * i - 2]
  local held = redis.call('HMGET', KEYS[i], 'h', 'g')
  if not held[1] and held[2] and held[2]:sub(21, 38) == at then
    redis.call('DEL', KEYS[i])
  end
  redis.call('ZREM', KEYS[1], 'z' .. at .. key)
end
return 1
