-- Writes of one tag, in order, each whole: record, version, indexes, terms, vector, tombstone and feed in step.
--
-- KEYS: keys, index, terms, state, feed, feed counter, then the record of each operation.
-- ARGV: whether this writer knows of a feed, how many fields are known, then ARGS arguments for each operation (see writing.py, which makes them).
-- Answer: for each operation a letter and what belongs to it (see writing.py, which reads them). After an S, Z, N or F
-- nothing more is tried; nor from the first on that would write over a record which a D has named, and which is yet to be read.
--@shared
local ARGS = 9
local keys, index, terms, state, feed, counter = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local held = redis.call('HMGET', state, 'mark', 'number', 'dimension', 'embedder', 'frozen', 'next', 'fields', 'feed')
local keeps_feed = ARGV[1] == '1' or held[8] == '1'
local number, dimension, embedder, frozen, aside = held[2], held[3], held[4], held[5], held[6]
local answers, named = {}, {}
if not held[1] then
  -- Nobody has entered this tag in the registry, or the server has lost it.
  return {'N'}
end
if tonumber(held[7] or '0') > tonumber(ARGV[2]) then
  return {'F'}
end
local issue, mark = sequence(held[1])

local function answer(text)
  answers[#answers + 1] = text
end

local function log(key, removed, now, version, owner, was)
  if keeps_feed then
    local seq = redis.call('INCR', counter)
    redis.call('XADD', feed, string.format('%.0f-0', seq), 'k', key, 'e',
      removed .. now .. version, 'o', owner or '', 'w', was or '')
  end
end

local function own_vector(record, which, key)
  -- The entries of a record's vectors, own and aside.
  local found = {}
  for _, n in pairs({which, aside or false}) do
    if n then
      local since = redis.call('HGET', record, 'y' .. n)
      if since then
        found['v' .. n .. key] = true
        found['w' .. n .. since:sub(1, 20) .. key] = true
      end
    end
  end
  return found
end

local function covered(scope, owner)
  -- Whether the owner (user, agent, session) has all that the scope pins.
  local u, a, s = split_owner(scope)
  local user, agent, session = split_owner(owner)
  return (u == '' or u == user) and (a == '' or a == agent) and (s == '' or s == session)
end

local function twin_of(digest, now)
  -- The live key with this digest that comes first.
  local from = '[d' .. digest
  while true do
    local found = redis.call('ZRANGEBYLEX', index, from, '(d' .. digest .. '\255', 'LIMIT', 0, 16)
    for _, entry in ipairs(found) do
      if entry:sub(-18) > now then
        return entry:sub(34, -20)
      end
      from = '(' .. entry
    end
    if #found < 16 then
      return nil
    end
  end
end

local function write_header(record, key, rest)
  local header = sealed(key, rest)
  redis.call('HSET', record, 'h', header)
  return header
end

for i = 0, (#ARGV - 2) / ARGS - 1 do
  local base = 2 + i * ARGS
  local control, scope, key = ARGV[base + 1], ARGV[base + 2], ARGV[base + 3]
  if named[key] then
    break
  end
  local record = KEYS[7 + i]
  local kind, flag, keep = control:sub(1, 1), control:sub(2, 2) == '1', control:sub(3, 3) == '1'
  local expect, floor, now = control:sub(4, 23), control:sub(24, 43), control:sub(44, 61)
  local created, expires = control:sub(62, 79), control:sub(80, 97)
  local token = ARGV[base + 4]:sub(1, 32)
  local fields = redis.call('HMGET', record, 'h', 'g', 'e')
  local header, grave, heads = fields[1], fields[2], fields[3]
  local live = header and (header:sub(83, 100) > now or (kind == 'R' and flag))
  local decided = false
  if floor ~= ANY then
    local version, held_token = ABSENT, ''
    if header then
      version, held_token = header:sub(9, 28), header:sub(121, 152)
    elseif grave then
      version, held_token = grave:sub(1, 20), grave:sub(39, 70)
    end
    if held_token == token then
      answer('=' .. (header or ''))
      decided = true
    elseif version > floor then
      answer('U')
      decided = true
    end
  end
  if decided then
    -- A repeat, answered above.
  elseif not live then
    if kind ~= 'P' or (expect ~= ANY and expect ~= ABSENT) then
      answer('-')
      decided = true
    end
  elseif not covered(scope, header:sub(OWNER)) then
    answer(kind == 'P' and '!' or '-')
    decided = true
  elseif expect == ABSENT then
    answer('!')
    decided = true
  elseif expect ~= ANY and expect ~= header:sub(9, 28) then
    answer('C' .. header)
    decided = true
  end
  if not decided and kind == 'P' and flag then
    local twin = twin_of(ARGV[base + 4]:sub(33, 64), now)
    if twin then
      answer('D' .. twin)
      named[twin] = true
      decided = true
    end
  end
  local vector, maker = ARGV[base + 8], ARGV[base + 9]
  if not decided and kind == 'P' and vector ~= '' then
    if frozen then
      answer('Z' .. frozen)
      break
    elseif not number then
      answer('S')
      break
    elseif tonumber(dimension) * 4 ~= #vector - 8 or (maker ~= '' and maker ~= embedder) then
      answer('M' .. number .. '\0' .. dimension .. '\0' .. embedder)
      decided = true
    end
  end
  if decided then
    -- Nothing to apply.
  elseif kind == 'P' then
    local version = issue()
    local updated, accessed, count = now, now, string.rep('0', 20)
    if created == NEVER then
      created = now
    end
    if keep then
      updated, accessed, count = control:sub(98, 115), control:sub(116, 133), control:sub(134, 153)
    elseif live then
      created, accessed, count = header:sub(29, 46), header:sub(65, 82), header:sub(101, 120)
    end
    local owed = '0000'
    if vector == '' and maker ~= '' then
      owed = number or '0000'
    elseif vector ~= '' then
      maker = ''
    end
    local rest = version .. created .. updated .. accessed .. expires .. count .. ARGV[base + 4]
      .. ARGV[base + 5]:sub(1, 31) .. owed .. ARGV[base + 5]:sub(32) .. '\0' .. maker
    local old_index, new_index = {}, {}
    if header then
      old_index = own_vector(record, number, key)
      entries(key, header, heads, old_index)
    else
      redis.call('ZADD', keys, 0, key)
      if grave then
        redis.call('ZREM', index, 'z' .. grave:sub(21, 38) .. key)
      end
    end
    local new = sealed(key, rest)
    entries(key, new, ARGV[base + 7], new_index)
    redis.call('DEL', record)
    if vector ~= '' then
      new_index['v' .. number .. key] = true
      new_index['w' .. number .. version .. key] = true
      redis.call('HSET', record, 'h', new, 'b', ARGV[base + 6], 'e', ARGV[base + 7], 'p', scopes(key, new),
        'v' .. number, vector:sub(9), 'y' .. number, version .. vector:sub(1, 8))
    else
      redis.call('HSET', record, 'h', new, 'b', ARGV[base + 6], 'e', ARGV[base + 7])
    end
    change(index, old_index, new_index)
    -- A posting holds time, length and owner: where one of them differs, no old one stays.
    if not header then
      swap(terms, {}, postings(key, new, ARGV[base + 7], true))
    elseif header:sub(29, 46) ~= created or header:sub(209, 215) ~= new:sub(209, 215)
      or owner_of(header) ~= owner_of(new) or terms_of(heads) ~= terms_of(ARGV[base + 7]) then
      swap(terms, postings(key, header, heads), postings(key, new, ARGV[base + 7], true))
    end
    log(key, '0', now, version, owner_of(new), live and owner_of(header))
    answer('=' .. new)
  elseif kind == 'T' then
    local version = issue()
    local accessed, count = header:sub(65, 82), header:sub(101, 120)
    if keep then
      accessed = now
      count = add(count, control:sub(134, 153))
    end
    if not flag then
      expires = header:sub(83, 100)
    end
    local old_index, new_index = {}, {}
    entries(key, header, '', old_index)
    local new = write_header(record, key, version .. header:sub(29, 64) .. accessed .. expires .. count .. token
      .. header:sub(153))
    entries(key, new, '', new_index)
    change(index, old_index, new_index)
    log(key, '0', now, version, owner_of(header), owner_of(header))
    answer('=' .. new)
  else
    local version = issue()
    local old_index = own_vector(record, number, key)
    entries(key, header, heads, old_index)
    change(index, old_index, {['z' .. now .. key] = true})
    swap(terms, postings(key, header, heads), {})
    redis.call('ZREM', keys, key)
    redis.call('DEL', record)
    redis.call('HSET', record, 'g', version .. now .. token)
    log(key, '1', now, version, nil, owner_of(header))
    answer('=' .. sealed(key, version .. header:sub(29)))
  end
end
redis.call('HSET', state, 'mark', mark())
return answers
