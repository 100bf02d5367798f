-- Give records vectors, own or aside. No write of the items: their versions and times stay.
--
-- KEYS: state, index, then the records. ARGV: number of the space, 1 when it is the tag's own, then for each record key,
-- version and vector. Answer: how many still had their version; Z and an epoch during a change.
--@shared
local state, index, number = KEYS[1], KEYS[2], ARGV[1]
local held = redis.call('HMGET', state, 'mark', 'number', 'frozen', 'next')
if held[3] then
  return 'Z' .. held[3]
end
if ARGV[2] == '1' and held[2] ~= number then
  return 0
end
if ARGV[2] ~= '1' and held[4] ~= number then
  redis.call('HSET', state, 'next', number)
end
local issue, mark = sequence(held[1])
local done = 0
for i = 0, #KEYS - 3 do
  local record, key, version, vector = KEYS[3 + i], ARGV[3 + 3 * i], ARGV[4 + 3 * i], ARGV[5 + 3 * i]
  local found = redis.call('HMGET', record, 'h', 'y' .. number)
  if found[1] and found[1]:sub(9, 28) == version then
    local since = issue()
    if found[2] then
      redis.call('ZREM', index, 'w' .. number .. found[2]:sub(1, 20) .. key)
    end
    redis.call('HSET', record, 'p', scopes(key, found[1]), 'v' .. number, vector:sub(9), 'y' .. number,
      since .. vector:sub(1, 8))
    redis.call('ZADD', index, 0, 'v' .. number .. key, 0, 'w' .. number .. since .. key)
    done = done + 1
  end
end
redis.call('HSET', state, 'mark', mark())
return done
