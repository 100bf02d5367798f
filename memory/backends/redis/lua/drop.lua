-- Remove vectors of a space that is no longer used.
--
-- KEYS: index, then the records. ARGV: number of the space, then the key of each record.
local index, number = KEYS[1], ARGV[1]
for i = 2, #KEYS do
  local key = ARGV[i]
  local since = redis.call('HGET', KEYS[i], 'y' .. number)
  redis.call('ZREM', index, 'v' .. number .. key)
  if since then
    redis.call('ZREM', index, 'w' .. number .. since:sub(1, 20) .. key)
    redis.call('HDEL', KEYS[i], 'v' .. number, 'y' .. number)
  end
end
return 1
