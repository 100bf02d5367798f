-- Postings of one term, the newest first, of one namespace or what lies under it and of one owner, in one text.
--
-- KEYS: terms. ARGV: term, where to go on ('' at the beginning), prefix of the keys ('' for all), how many are wanted,
-- how many may be looked at, then user, agent and session that are asked for ('' for any).
-- Answer: the posting that was looked at last ('' when there are no more) with its length, then each posting with its
-- length, without the term.
local set, term, after, prefix = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local wanted, allowed = tonumber(ARGV[4]), tonumber(ARGV[5])
local user, agent, session = ARGV[6], ARGV[7], ARGV[8]
local owned = user ~= '' or agent ~= '' or session ~= ''
local from, to = '[' .. term .. '\0', '(' .. term .. '\1'
local start, width = #term + 2, #prefix
if after ~= '' then
  from = '(' .. after
end
local parts, kept, last = {}, 0, ''
while kept < wanted and allowed > 0 do
  local asked = math.min(1000, allowed)
  local found = redis.call('ZRANGEBYLEX', set, from, to, 'LIMIT', 0, asked)
  for i = 1, #found do
    local posting = found[i]
    last = posting
    local inside = width == 0 or posting:sub(start + 18, start + 17 + width) == prefix
    if inside and owned then
      local u, a, s = posting:match('%z(%Z*)%z(%Z*)%z(%Z*)$')
      inside = (user == '' or user == u) and (agent == '' or agent == a) and (session == '' or session == s)
    end
    if inside then
      kept = kept + 1
      local rest = posting:sub(start)
      parts[#parts + 1] = struct.pack('>I4', #rest)
      parts[#parts + 1] = rest
      if kept == wanted then
        break
      end
    end
  end
  if kept < wanted and #found < asked then
    last = ''
    break
  end
  allowed = allowed - asked
  from = '(' .. last
end
return struct.pack('>I4', #last) .. last .. table.concat(parts)
