/**
 * Brings sessions here that an older version of `RedisSessionStore` wrote, and keeps instances of it that still run beside from
 * taking what this one writes for nothing.
 *
 * **Details**
 *
 * The older version kept a session in a hash `session:<id>` and a string `content:<id>`, its tokens in hashes
 * `token:<sha256>`, and had sorted sets `sessions-of:<principal>`, `deadlines-of:<principal>` and `ends`. Whatever needs
 * a session, a token or a principal's sessions brings them here, at once and whole, and pruning brings all others, a batch
 * at a time. `epochs` and the channel are the same in both.
 *
 * For an instance of the older version, a session that is not there is over, and its user is logged out. So a text stands at
 * each of the old names until a day after the last session was brought here: such an instance says that sessions are unavailable
 * where it meets one. They have a time to live, unlike all other keys, because nothing is lost with them.
 */

/** How long an instance of the older version may run beside, in seconds. */
const beside = 86_400

/** To stand behind the steps. */
export const legacy = (prefix: string): string => `
local OLD_SESSION, OLD_CONTENT, OLD_TOKEN = '${prefix}:session:', '${prefix}:content:', '${prefix}:token:'
local OLD_ORDER, OLD_DEADLINES, OLD_ENDS = '${prefix}:sessions-of:', '${prefix}:deadlines-of:', '${prefix}:ends'
local MOVING = '${prefix}:moving'

-- Whether there is, or lately was, anything of an older version.
local function is_moving() return redis.call('EXISTS', OLD_ENDS, MOVING) > 0 end

local function trip(...)
  for _, key in ipairs({ ... }) do redis.call('SET', key, 'moved', 'EX', ${beside}) end
end
trip_token = function(full) if is_moving() then trip(OLD_TOKEN .. full) end end
trip_session = function(id) if is_moving() then trip(OLD_SESSION .. long(id)) end end
trip_principal = function(principal)
  if is_moving() then trip(OLD_ORDER .. principal, OLD_DEADLINES .. principal) end
end

-- The values of a hash; nil where there is none, or something else.
local function hash_at(key, ...)
  local values = redis.pcall('HMGET', key, ...)
  if values.err then return end
  for i = 1, select('#', ...) do
    if values[i] then return values end
  end
end

-- A number as it is written here. What is none stays, and is found to be none.
local function in_hex(value)
  local n = number(value)
  return n and hex(n) or string.gsub(value or 'none', '[%s%z]', '_') .. '!'
end
local function since(created, value)
  local n = number(value)
  return n and text(n - (number(created) or 0)) or 'none'
end
local function word(value) return (string.gsub(value or '', '[%s%z]', '_')) end

local function bring_tokens(first)
  local full = first
  while full do
    local t = hash_at(OLD_TOKEN .. full, 'session', 'issuedAt', 'nonce', 'era', 'validUntil', 'predecessor', 'successor', 'was')
    if not t or not t[1] then return end
    keep(name(full), {
      id = short(t[1]), issued = number(t[2]), nonce = t[3] and word(t[3]), era = word(t[4]), valid = t[5] and word(t[5]),
      before = t[6] and name(t[6]), next = t[7] and name(t[7]), was = t[8] and short(t[8])
    })
    trip(OLD_TOKEN .. full)
    full = t[7]
  end
end

-- Brings a session with its tokens, its place and its end; whether there was one.
local function bring(id)
  local full = long(id)
  local o = hash_at(OLD_SESSION .. full, 'stamp', 'version', 'dataVersion', 'createdAt', 'lastSeenAt', 'idle', 'touch', 'renew',
    'expiresAt', 'era', 'endedAt', 'principal', 'actor', 'first', 'last', 'instead')
  if not o then return false end
  redis.call('SET', MOVING, '1', 'EX', ${beside})
  local known, held = pcall(redis.call, 'GET', OLD_CONTENT .. full)
  local principal = o[12] or ''
  local at = tonumber(redis.call('ZSCORE', OLD_ENDS, full) or number(o[11]) or number(o[9]) or now)
  local block = roomy()
  local s = {
    o[1] == '0' and '0' or in_hex(o[1]), word(o[2]), word(o[3]), in_hex(o[4]), since(o[4], o[5]), in_hex(o[6]), in_hex(o[7]),
    in_hex(o[8]), since(o[4], o[9]), word(o[10]), o[11] and in_hex(o[11]) or '', block, name(o[15] or ''), name(o[14] or ''),
    o[16] and name(o[16]) or '', principal, o[13] or ''
  }
  put(id, s, known and held or '')
  settle(id, block, at)
  bring_tokens(o[14])
  if o[16] then bring_tokens(o[16]) end
  redis.call('ZREM', OLD_ENDS, full)
  redis.call('DEL', OLD_CONTENT .. full)
  trip(OLD_SESSION .. full)
  if principal == '' then return true end
  local was_placed, order = pcall(redis.call, 'ZSCORE', OLD_ORDER .. principal, full)
  if was_placed and order then
    place(principal, id, order)
    redis.call('ZREM', OLD_ORDER .. principal, full)
    redis.pcall('ZREM', OLD_DEADLINES .. principal, full)
  end
  return true
end

adopt = function(id) return #id == 32 and is_moving() and bring(id) end

adopt_token = function(full)
  if not is_moving() then return false end
  local t = hash_at(OLD_TOKEN .. full, 'session', 'was')
  if not t or not t[1] then return false end
  if t[2] then bring(short(t[2])) end
  bring(short(t[1]))
  -- One that its session does not know of comes alone.
  if redis.call('EXISTS', TOKEN .. name(full)) == 0 then bring_tokens(full) end
  return true
end

-- All of a principal.
adopt_all = function(principal)
  if not is_moving() then return end
  local ids = redis.pcall('ZRANGE', OLD_ORDER .. principal, 0, -1)
  if ids.err or #ids == 0 then return end
  for _, id in ipairs(ids) do bring(short(id)) end
  redis.call('DEL', OLD_ORDER .. principal, OLD_DEADLINES .. principal)
  trip_principal(principal)
end

-- So many, and how many there were. What cannot be brought is nothing.
adopt_some = function(limit)
  if redis.call('EXISTS', OLD_ENDS) == 0 then return 0 end
  local ids = redis.call('ZRANGE', OLD_ENDS, 0, limit - 1)
  for _, id in ipairs(ids) do
    local ok, done = pcall(bring, short(id))
    if not ok or not done then
      redis.call('DEL', OLD_SESSION .. id, OLD_CONTENT .. id)
      redis.call('ZREM', OLD_ENDS, id)
    end
  end
  return #ids
end
`
