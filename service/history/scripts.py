"""What a Redis does in one step: Lua scripts, known by the SHA-1 of their text.

Their first line lets a server that is full refuse them before they have changed anything.
"""

import hashlib

# One user's new items: all of them or, after an error, none. An item with a token is left out when
# the token is known. The guard does the same for all items without one, for some seconds: it knows
# the second try of a call whose first one was applied, though its answer was lost.
APPEND = """#!lua
-- KEYS: history, tokens
-- ARGV: max items, TTL of the history (0: none), now, TTL of tokens, guard, TTL of the guard,
--       then key (4 bytes) and token (or '') of each item; times in whole seconds
local packed = redis.call('GET', KEYS[1]) or '\\20'
if string.byte(packed) ~= 20 or #packed % 4 ~= 1 then
  return redis.error_reply('UNREADABLE not a history of a known layout')
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3])
local function is_new(token, ttl)
  if redis.call('ZADD', KEYS[2], 'NX', ARGV[3] + ttl, token) == 0 then return false end
  if redis.call('TTL', KEYS[2]) < tonumber(ttl) then redis.call('EXPIRE', KEYS[2], ttl) end
  return true
end
local new, num_new, first_try = {}, 0, nil
for i = 7, #ARGV, 2 do
  local token = ARGV[i + 1]
  if token == '' then
    if first_try == nil then first_try = is_new(ARGV[5], ARGV[6]) end
    if first_try then new[#new + 1] = ARGV[i] end
    num_new = num_new + 1
  elseif is_new(token, ARGV[4]) then
    new[#new + 1] = ARGV[i]
    num_new = num_new + 1
  end
end
if #new > 0 then
  local keys = string.sub(packed, 2) .. table.concat(new)
  packed = '\\20' .. string.sub(keys, -4 * ARGV[1])
  if ARGV[2] == '0' then
    redis.call('SET', KEYS[1], packed)
  else
    redis.call('SET', KEYS[1], packed, 'EX', ARGV[2])
  end
end
return num_new
"""

# Each item's key: the first of its candidates that is free, or has been this item's all along.
# An item without any is answered with ''.
NUM_CANDIDATES = 8
REGISTER = """#!lua
-- KEYS: item ids by key
-- ARGV: for each item its id and NUM_CANDIDATES keys
local keys = {}
for i = 1, #ARGV, 9 do
  local found = ''
  for c = i + 1, i + 8 do
    if redis.call('HSETNX', KEYS[1], ARGV[c], ARGV[i]) == 1
      or redis.call('HGET', KEYS[1], ARGV[c]) == ARGV[i] then
      found = ARGV[c]
      break
    end
  end
  keys[#keys + 1] = found
end
return keys
"""

# The fingerprint that came first with this idempotency key.
CLAIM = """#!lua
-- KEYS: claim
-- ARGV: fingerprint, TTL in seconds
local first = redis.call('GET', KEYS[1])
if first then return first end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return ARGV[1]
"""


def sha_of(script: str) -> str:
    """The name under which a Redis keeps a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


SCRIPTS = {sha_of(script): script for script in (APPEND, REGISTER, CLAIM)}
APPEND_SHA, REGISTER_SHA, CLAIM_SHA = SCRIPTS
