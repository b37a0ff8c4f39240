"""What a ledger runs inside Redis: each of these is one atomic step there."""

READ = """
-- KEYS: head, events, then indexes; ARGV: a field. The head, and the event that each index names for the field.
local told = {redis.call('GET', KEYS[1]) or ''}
for i = 3, #KEYS do
  local seq = redis.call('HGET', KEYS[i], ARGV[1])
  told[#told + 1] = seq and redis.call('HGET', KEYS[2], seq) or ''
end
return told
"""

WRITE = """
-- KEYS: head, events, decisions, rulings, notes, reports, waiting
-- ARGV: the head that was read, the new head, whether this may have been written already; then index, field, seq, due, line
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return ARGV[3] == '1' and redis.call('HGET', KEYS[2], ARGV[6]) == ARGV[8] and 1 or 0
end
if redis.call('HEXISTS', KEYS[2], ARGV[6]) == 1 then
  return redis.error_reply('CHAIN the head of the chain is not its end')
end
for i = 4, #ARGV, 5 do
  local index, field, seq, due, line = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  redis.call('HSETNX', KEYS[2], seq, line)
  if index == 'decisions' then
    redis.call('HSETNX', KEYS[3], field, seq)
    if due ~= '' then redis.call('ZADD', KEYS[7], 0, due) end
  elseif index == 'rulings' then
    redis.call('HSETNX', KEYS[4], field, seq)
    redis.call('ZREM', KEYS[7], due)
  elseif index == 'notes' then
    redis.call('HSET', KEYS[5], field, seq)
  elseif index == 'reports' then
    redis.call('ZADD', KEYS[6], 0, field)
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

CLAIM = """
-- KEYS: a claim; ARGV: its turn and status as they were read, 'begin', 'finish' or 'free', seconds to keep it, fields
local seen = (redis.call('HGET', KEYS[1], 'turn') or '') .. ':' .. (redis.call('HGET', KEYS[1], 'status') or '')
if seen ~= ARGV[1] then return 0 end
if ARGV[2] ~= 'finish' then redis.call('DEL', KEYS[1]) end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if ARGV[2] == 'begin' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
"""
