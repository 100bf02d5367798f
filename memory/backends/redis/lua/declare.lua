-- Let a tag refuse writes by whoever does not know all fields.
--
-- KEYS: state. ARGV: how many fields there are.
local held = tonumber(redis.call('HGET', KEYS[1], 'fields') or '0')
if tonumber(ARGV[1]) > held then
  redis.call('HSET', KEYS[1], 'fields', ARGV[1])
end
return 1
