-- Whether entries are there: a 1 or 0 for each.
--
-- KEYS: the set. ARGV: the entries.
local there = {}
for i = 1, #ARGV do
  there[i] = redis.call('ZSCORE', KEYS[1], ARGV[i]) and '1' or '0'
end
return table.concat(there)
