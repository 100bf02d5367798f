-- Several short pages of one sorted set at once.
--
-- KEYS: the set. ARGV: for each page from, to (as for ZRANGEBYLEX), how many, + forwards or r backwards.
-- Answer: for each page the number of its entries, then each with its length before it.
local parts = {}
for i = 1, #ARGV, 4 do
  local found
  if ARGV[i + 3] == '+' then
    found = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[i], ARGV[i + 1], 'LIMIT', 0, ARGV[i + 2])
  else
    found = redis.call('ZREVRANGEBYLEX', KEYS[1], ARGV[i + 1], ARGV[i], 'LIMIT', 0, ARGV[i + 2])
  end
  parts[#parts + 1] = struct.pack('>I4', #found)
  for j = 1, #found do
    parts[#parts + 1] = struct.pack('>I4', #found[j])
    parts[#parts + 1] = found[j]
  end
end
return table.concat(parts)
