-- What several scripts need: the form of a header, the index entries of a record, versions. entries.py and
-- records.py say the same in Python.
local ANY, ABSENT = '--------------------', '00000000000000000000'
local NEVER = '999999999999999999'
local OWNER = 220
local NINES = {['0'] = '9', ['1'] = '8', ['2'] = '7', ['3'] = '6', ['4'] = '5', ['5'] = '4', ['6'] = '3', ['7'] = '2',
  ['8'] = '1', ['9'] = '0'}

local function sealed(key, rest)
  -- A header: the beginning of a checksum over key and contents, then the contents.
  return redis.sha1hex(key .. rest):sub(1, 8) .. rest
end

local function split_owner(text)
  return text:match('^(%Z*)%z(%Z*)%z(%Z*)')
end

local function owner_of(header)
  return header:match('^%Z*%z%Z*%z%Z*', OWNER)
end

local function sequence(last)
  -- Two functions: the next version, above all earlier ones of the tag and near the server's time; and the last one.
  local mark = tonumber(last)
  local time = redis.call('TIME')
  local clock = tonumber(time[1]) * 1000000 + tonumber(time[2])
  return function()
    mark = mark + 1
    if clock > mark then
      mark = clock
    end
    return string.format('%020.0f', mark)
  end, function()
    return string.format('%.0f', mark)
  end
end

local function add(count, more)
  -- The sum of two numbers of 20 digits, which a double cannot hold; at most the largest int of 64 bits.
  local low = tonumber(count:sub(11)) + tonumber(more:sub(11))
  local high = tonumber(count:sub(1, 10)) + tonumber(more:sub(1, 10))
  if low >= 1e10 then
    low, high = low - 1e10, high + 1
  end
  local sum = string.format('%010.0f%010.0f', high, low)
  return sum < '09223372036854775807' and sum or '09223372036854775807'
end

local function terms_of(heads)
  -- The heads that are terms, which come last, each with a NUL before it.
  local place = heads:find('\0t', 1, true)
  return place and heads:sub(place) or ''
end

local function entries(key, header, heads, index)
  -- The entries of a record in the index, added to a set.
  local created, expires = header:sub(29, 46), header:sub(83, 100)
  local _, _, session = split_owner(header:sub(OWNER))
  local path_end = key:find('\0\0', 1, true)
  index['c' .. created .. key] = true
  index['m' .. header:sub(47, 64) .. key] = true
  index['a' .. header:sub(65, 82) .. key] = true
  index['i' .. header:sub(193, 208) .. key] = true
  index['n' .. key:sub(1, path_end + 1) .. session .. '\0' .. created .. key:sub(path_end + 2)] = true
  index['d' .. header:sub(153, 184) .. key .. '\0' .. expires] = true
  if expires ~= NEVER then
    index['x' .. expires .. key] = true
  end
  for head in heads:sub(1, #heads - #terms_of(heads)):gmatch('%Z+') do
    index[head .. '\0' .. key] = true
  end
end

local function postings(key, header, heads, scored)
  -- The entries of a record's terms, as ZREM takes them, or with the scores that ZADD takes.
  local newest = header:sub(29, 46):gsub('%d', NINES) .. key .. '\0'
  local user, agent, session = split_owner(header:sub(OWNER))
  local tail = '\0' .. header:sub(209, 215) .. '\0' .. user .. '\0' .. agent .. '\0' .. session
  local found, n = {}, 0
  for times, term in heads:gmatch('%zt(%d+):(%Z*)') do
    if scored then
      n = n + 1
      found[n] = 0
    end
    n = n + 1
    found[n] = term .. '\0' .. newest .. times .. tail
  end
  return found
end

local function scopes(key, header)
  -- What the query engine looks for: every path that a record lies under, its own path, and its owner; as words of
  -- hexadecimal digits, which need no escaping.
  local words = {}
  local path = key:sub(1, key:find('\0\0', 1, true) - 1)
  local place = 0
  while place do
    place = path:find('\0', place + 1, true)
    words[#words + 1] = 'b' .. redis.sha1hex(path:sub(1, (place or 0) - 1)):sub(1, 20)
  end
  words[#words + 1] = 'n' .. redis.sha1hex(path):sub(1, 20)
  local user, agent, session = split_owner(header:sub(OWNER))
  for letter, name in pairs({u = user, r = agent, s = session}) do
    if name ~= '' then
      words[#words + 1] = letter .. redis.sha1hex(name):sub(1, 20)
    end
  end
  return table.concat(words, ',')
end

local function swap(set, gone, fresh)
  -- Take entries out of a sorted set and put others in, these with their scores.
  for i = 1, #gone, 4000 do
    redis.call('ZREM', set, unpack(gone, i, math.min(i + 3999, #gone)))
  end
  for i = 1, #fresh, 4000 do
    redis.call('ZADD', set, unpack(fresh, i, math.min(i + 3999, #fresh)))
  end
end

local function change(set, old, new)
  -- Bring a sorted set from one set of entries to another, writing only what differs.
  local gone, fresh = {}, {}
  for entry in pairs(old) do
    if not new[entry] then
      gone[#gone + 1] = entry
    end
  end
  for entry in pairs(new) do
    if not old[entry] then
      fresh[#fresh + 1] = 0
      fresh[#fresh + 1] = entry
    end
  end
  swap(set, gone, fresh)
end
