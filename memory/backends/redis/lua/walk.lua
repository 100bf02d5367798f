-- A page of entries of one sorted set, in one text.
--
-- KEYS: the set. ARGV: from, to (as for ZRANGEBYLEX), how many, and in which way: '+' forwards, 'r' backwards, '-'
-- backwards where entries that begin with the same ARGV[5] characters stay in forward order.
-- Answer: each entry with its length before it.
local set, from, to, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local found
if ARGV[4] == '+' then
  found = redis.call('ZRANGEBYLEX', set, from, to, 'LIMIT', 0, limit)
elseif ARGV[4] == 'r' then
  found = redis.call('ZREVRANGEBYLEX', set, to, from, 'LIMIT', 0, limit)
else
  -- ARGV[6] is the last entry of the page before, or ''.
  local width, after = tonumber(ARGV[5]), ARGV[6]
  found = {}
  if after ~= '' then
    local value = after:sub(1, width)
    found = redis.call('ZRANGEBYLEX', set, '(' .. after, '(' .. value .. '\255', 'LIMIT', 0, limit)
    to = '(' .. value
  end
  while #found < limit do
    local last = redis.call('ZREVRANGEBYLEX', set, to, from, 'LIMIT', 0, 1)[1]
    if not last then
      break
    end
    local value = last:sub(1, width)
    local group = redis.call('ZRANGEBYLEX', set, '[' .. value, '[' .. last, 'LIMIT', 0, limit - #found)
    for i = 1, #group do
      found[#found + 1] = group[i]
    end
    to = '(' .. value
  end
end
local parts = {}
for i = 1, #found do
  parts[2 * i - 1] = struct.pack('>I4', #found[i])
  parts[2 * i] = found[i]
end
return table.concat(parts)
