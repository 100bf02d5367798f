-- What a store is: its layout, its analyser, and the fields that were ever declared, which get numbers.
--
-- KEYS: format. ARGV: layout, analyser, then the fields that are wanted. Answer: layout, analyser, how many fields there
-- are, then for each its path, its number, and 1 when every record is indexed by it.
redis.call('HSETNX', KEYS[1], 'layout', ARGV[1])
redis.call('HSETNX', KEYS[1], 'analyser', ARGV[2])
redis.call('HSETNX', KEYS[1], 'fields', '0')
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], 'p' .. ARGV[i]) == 0 then
    redis.call('HSET', KEYS[1], 'p' .. ARGV[i], redis.call('HINCRBY', KEYS[1], 'fields', 1))
  end
end
local told = redis.call('HMGET', KEYS[1], 'layout', 'analyser', 'fields')
local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  if held[i]:sub(1, 1) == 'p' then
    told[#told + 1] = held[i]:sub(2)
    told[#told + 1] = held[i + 1]
    told[#told + 1] = redis.call('HGET', KEYS[1], 'r' .. held[i + 1]) or '0'
  end
end
return told
