-- Take events of one tag of a cluster into the feed of the store, each once.
--
-- KEYS: feed, counter, what was taken of each tag. ARGV: tag, then for each event its number in the tag, k, e, o, w.
local last = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0')
for i = 2, #ARGV, 5 do
  local number = tonumber(ARGV[i])
  if number > last then
    last = number
    local seq = redis.call('INCR', KEYS[2])
    redis.call('XADD', KEYS[1], string.format('%.0f-0', seq), 'k', ARGV[i + 1], 'e', ARGV[i + 2], 'o', ARGV[i + 3],
      'w', ARGV[i + 4])
  end
end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', last))
return 1
