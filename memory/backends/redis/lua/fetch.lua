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
local names, checked = {}, {}
for name in ARGV[1]:gmatch('.') do
  local which = name == 'a' and (held[3] or '0000') or number
  if name == 'v' or name == 'a' then
    checked[#names + 1] = true
    names[#names + 1] = 'v' .. which
    names[#names + 1] = 'y' .. which
  elseif name == 'y' then
    names[#names + 1] = 'y' .. number
  else
    names[#names + 1] = name
  end
end
local frozen = held[2] or ''
local parts = {number, struct.pack('>I4', #frozen), frozen}
for i = 2, #KEYS do
  local found = redis.call('HMGET', KEYS[i], unpack(names))
  local j = 1
  while j <= #names do
    local part = found[j]
    if checked[j] then
      -- A vector comes with its checksum, which stands behind the version it was written at.
      part = part and found[j + 1] and found[j + 1]:sub(21) .. part
      j = j + 1
    end
    if part then
      parts[#parts + 1] = struct.pack('>I4', #part)
      parts[#parts + 1] = part
    else
      parts[#parts + 1] = '\255\255\255\255'
    end
    j = j + 1
  end
end
return table.concat(parts)
