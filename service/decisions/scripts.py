"""What a ledger runs inside Redis: each of these is one atomic step there."""

READ = """
-- KEYS: head, events, decisions, rulings, salts, erasures; ARGV: ids
-- The head; then of each id, if it is a decision: its salt, its event, its erasure's event, its rulings' events.
local function line(index, field)
  local seq = redis.call('HGET', index, field)
  return seq and redis.call('HGET', KEYS[2], seq) or ''
end
local told = {redis.call('GET', KEYS[1]) or ''}
for _, id in ipairs(ARGV) do
  local kept = {}
  if redis.call('HEXISTS', KEYS[3], id) == 1 then
    kept = {redis.call('HGET', KEYS[5], id) or '', line(KEYS[3], id), line(KEYS[6], id)}
    local nth, field = 1, id
    while redis.call('HEXISTS', KEYS[4], field) == 1 do
      kept[#kept + 1] = line(KEYS[4], field)
      nth = nth + 1
      field = id .. '\\0' .. nth
    end
  end
  told[#told + 1] = kept
end
return told
"""

WRITE = """
-- KEYS: head, events, decisions, rulings, notes, reports, waiting, queues, salts, erasures
-- ARGV: the head that was read, the new head, whether this may have been written already;
-- then, of each event: index, field, seq, due, queue, salt, line
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return ARGV[3] == '1' and redis.call('HGET', KEYS[2], ARGV[6]) == ARGV[10] and 1 or 0
end
if redis.call('HEXISTS', KEYS[2], ARGV[6]) == 1 then
  return redis.error_reply('CHAIN the head of the chain is not its end')
end
for i = 4, #ARGV, 7 do
  local index, field, seq, due, queue, salt, line = unpack(ARGV, i, i + 6)
  redis.call('HSETNX', KEYS[2], seq, line)
  if index == 'decisions' then
    redis.call('HSETNX', KEYS[3], field, seq)
    if salt ~= '' then redis.call('HSETNX', KEYS[9], field, salt) end
    if due ~= '' then
      redis.call('ZADD', KEYS[7], 0, due)
      redis.call('ZADD', KEYS[8], 0, queue)
    end
  elseif index == 'rulings' then
    redis.call('HSETNX', KEYS[4], field, seq)
    if due ~= '' then
      redis.call('ZREM', KEYS[7], due)
      redis.call('ZREM', KEYS[8], queue)
    end
  elseif index == 'erasures' then
    redis.call('HSETNX', KEYS[10], field, seq)
    redis.call('HDEL', KEYS[9], field)
  elseif index == 'notes' then
    redis.call('HSET', KEYS[5], field, seq)
  elseif index == 'reports' then
    redis.call('ZADD', KEYS[6], 0, field)
  end
end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

ADOPT = """
-- KEYS: waiting, queues, decisions, events. The first release had one queue for all tenants.
if #redis.call('ZRANGEBYLEX', KEYS[2], '-', '+', 'LIMIT', 0, 1) > 0 then return 0 end
local waiting = redis.call('ZRANGEBYLEX', KEYS[1], '-', '+')
for _, due in ipairs(waiting) do
  local seq = redis.call('HGET', KEYS[3], string.match(due, '|(.*)'))
  local tenant = cjson.decode(redis.call('HGET', KEYS[4], seq)).tenant
  redis.call('ZADD', KEYS[2], 0, #tenant .. ':' .. tenant .. '|' .. due)
end
return #waiting
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
