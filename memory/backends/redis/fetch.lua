-- Records by key, in one text: each part with its length before it.
--
-- KEYS: state, then the records. ARGV: the parts wanted (h header, b body, v vector, y when it was written, e heads,
-- g tombstone, a the vector aside), and the number of the space ('' for the tag's own).
-- Answer: the number of the space in 4 characters, the epoch of a switch under way with its length, then for each
-- record each part; a part that is not there has the length FFFFFFFF.
local held = redis.call('HMGET', KEYS[1], 'number', 'frozen', 'next')
local number = ARGV[2]
if number == '' then
  number = held[1] or '0000'
end
local names = {}
for name in ARGV[1]:gmatch('.') do
  if name == 'v' or name == 'y' then
    names[#names + 1] = name .. number
  elseif name == 'a' then
    names[#names + 1] = 'v' .. (held[3] or '0000')
  else
    names[#names + 1] = name
  end
end
local frozen = held[2] or ''
local parts = {number, struct.pack('>I4', #frozen), frozen}
for i = 2, #KEYS do
  local found = redis.call('HMGET', KEYS[i], unpack(names))
  for j = 1, #names do
    local part = found[j]
    if part then
      parts[#parts + 1] = struct.pack('>I4', #part)
      parts[#parts + 1] = part
    else
      parts[#parts + 1] = '\255\255\255\255'
    end
  end
end
return table.concat(parts)
