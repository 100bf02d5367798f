-- Events of the feed, at one moment, in one text.
--
-- KEYS: feed, counter. ARGV: where to begin, how many ('0' for none). Answer: texts with their lengths before them: head,
-- the oldest event's id or '', then for each event its id and four fields.
local texts = {redis.call('GET', KEYS[2]) or '0'}
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
texts[2] = oldest and oldest[1] or ''
if ARGV[2] ~= '0' then
  for _, event in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
    texts[#texts + 1] = event[1]
    for i = 2, 8, 2 do
      texts[#texts + 1] = event[2][i]
    end
  end
end
for i = 1, #texts do
  texts[i] = struct.pack('>I4', #texts[i]) .. texts[i]
end
return table.concat(texts)
