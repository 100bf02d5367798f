-- Write the entries of records anew.
--
-- KEYS: keys, index, terms, then the records. ARGV: number of the space, then for each record its key, its header as it
-- was read, and its heads. Answer: how many were as they were read.
--@shared
local mended = 0
for i = 0, #KEYS - 4 do
  local record, key, header, heads = KEYS[4 + i], ARGV[2 + 3 * i], ARGV[3 + 3 * i], ARGV[4 + 3 * i]
  local found = redis.call('HMGET', record, 'h', 'y' .. ARGV[1])
  if found[1] == header then
    local index_entries = {}
    entries(key, header, heads, index_entries)
    if found[2] then
      index_entries['v' .. ARGV[1] .. key] = true
      index_entries['w' .. ARGV[1] .. found[2]:sub(1, 20) .. key] = true
    end
    redis.call('ZADD', KEYS[1], 0, key)
    change(KEYS[2], {}, index_entries)
    swap(KEYS[3], {}, postings(key, header, heads, true))
    redis.call('HSET', record, 'e', heads)
    mended = mended + 1
  end
end
return mended
