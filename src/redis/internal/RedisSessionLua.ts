/**
 * What the scripts of `RedisSessionStore` have in common: the keys, the times and the steps they are made of.
 *
 * **Details**
 *
 * Keys, under the store's prefix:
 *
 * - `session:<id>`, hash: the session, from its creation until it is pruned. Its `stamp` is the moment of the last write to
 *   it or to one of its tokens (microseconds), no two alike, by which it is known again; 0 once it is over for good, whatever
 *   the server's clock says then: it was ended, or is not among those of its principal any more. It has a `principal` only if
 *   somebody is logged in, and an `actor` only if an operator acts in it.
 * - `content:<id>`, string: its device and its data, a line each, until it is ended. Apart, because the server keeps a hash
 *   of short values in one piece, which takes half the memory and time.
 * - `token:<hash>`, hash: whose token it is, as long. From `first` to `last` of the session, each token names its
 *   `successor`, so that the script that removes the session finds them all. One that was presented in vain belongs to the session
 *   that took the place of its own, and knows whose it `was`.
 * - `sessions-of:<principal>`, sorted set: its sessions that are not over for good, in the order of their logins
 *   (microseconds). One that is not there cannot live again, whichever way the clock is set.
 * - `deadlines-of:<principal>`, sorted set: the same by the moment of their end for idleness or age (milliseconds). How
 *   many live is one look-up, and those that expired are dropped in the next login without looking at the others.
 * - `ends`, sorted set: every session by its end (milliseconds), the absolute one until it is ended. For pruning.
 * - `epochs`, sorted set: principals by the moment at which all their sessions were revoked (microseconds).
 *
 * No key has a time to live: the server would evict those first under a `volatile-` policy, and a session with a part
 * missing is neither there nor gone. A script's writes take effect together or, if the server is killed, not at all. They
 * would stay if the script failed halfway: so whatever can fail on strange data is read before the first write.
 *
 * Times come from the server's clock, once per script. Lua's numbers are doubles, exact for microseconds until the year
 * 2255, but `tostring` keeps 14 digits: `text` keeps all. Data goes through as it is, never through a codec of Lua's.
 */
import * as Duration from "effect/Duration"
import * as SessionTimes from "../../session/SessionTimes.ts"

/**
 * The fields of a session that the scripts read, in their order; `row` and the indexes below depend on it. Those that only what
 * issues tokens looks at are at the end: a load and a list do without.
 */
const fields = [
  "stamp",
  "principal",
  "dataVersion",
  "version",
  "createdAt",
  "lastSeenAt",
  "idle",
  "touch",
  "renew",
  "expiresAt",
  "endedAt",
  "era",
  "actor",
  "first",
  "last"
] as const
const named = (names: ReadonlyArray<string>) => names.map((name) => `'${name}'`).join(", ")

const constants = fields.map((name, index) => `local ${name.toUpperCase()} = ${index + 1}`).join("\n")

/** More arguments do not fit on the stack of Lua. */
const most = 1000
/** Ids in one message, which subscribers get in one piece. */
const told = 100
/** Expired sessions of a principal that a login drops on its way. Each login adds one. */
const dropped = 500
/** Sessions that are ended in one script, so that it holds up the others for a millisecond or two. */
const atOnce = 200
/** Tokens dead for a day that a login or renewal forgets on its way. It adds one. */
const forgotten = 10

/** The channel on which the ends of sessions are told. */
export const channelOf = (prefix: string): string => `${prefix}:ended`

/** What a session's id stands behind in its key. */
export const sessionKey = (prefix: string): string => `${prefix}:session:`

/** The key of what a session holds stands before its id. */
const contentKey = (prefix: string): string => `${prefix}:content:`

/** Key names and steps for the store with this prefix, which holds no character that means something in Lua. */
export const prelude = (prefix: string): string => `
local SESSION, TOKEN = '${sessionKey(prefix)}', '${prefix}:token:'
local CONTENT = '${contentKey(prefix)}'
local ORDER, DEADLINES = '${prefix}:sessions-of:', '${prefix}:deadlines-of:'
local ENDS, EPOCHS, CHANNEL = '${prefix}:ends', '${prefix}:epochs', '${channelOf(prefix)}'
local GRACE, DAY = ${Duration.toMillis(SessionTimes.renewalGrace)}, ${Duration.toMillis(SessionTimes.tombstoneAge)}
local AT_ONCE = ${atOnce}
${constants}

local moment = redis.call('TIME')
local micros = moment[1] * 1000000 + moment[2]
local now = math.floor(micros / 1000)

local function text(number) return string.format('%.0f', number) end

-- A count or a time, or nil.
local function number(value)
  local n = value and tonumber(value)
  if n and n >= 0 and n < 9007199254740992 then return n end
end

local function read(id)
  return redis.call('HMGET', SESSION .. id, ${named(fields)})
end

local function glance(id)
  return redis.call('HMGET', SESSION .. id, ${named(fields.slice(0, -2))})
end

-- When the session ends if nobody comes any more; nil where that cannot be read.
local function deadline(s, seen)
  local idle, touch, expires = number(s[IDLE]), number(s[TOUCH]), number(s[EXPIRESAT])
  if seen and idle and touch and expires then return math.min(expires, seen + idle + touch) end
end

-- 'broken' is what cannot be read: the caller finds out where. Of one that can be, also when it ends and since when activity
-- is due. What was only glanced at has no tokens to look at, and its counts are read by the caller.
local function state_of(s, glanced)
  if s[ENDEDAT] then return 'revoked' end
  if not (s[VERSION] or s[CREATEDAT] or s[EXPIRESAT]) then return 'missing' end
  if s[STAMP] == '0' then return 'expired' end
  local seen, idle, touch, expires = number(s[LASTSEENAT]), number(s[IDLE]), number(s[TOUCH]), number(s[EXPIRESAT])
  if not (seen and idle and touch and expires and number(s[RENEW])) then return 'broken' end
  if not (glanced or number(s[VERSION]) and number(s[ERA]) and s[FIRST] and s[LAST]) then return 'broken' end
  local at = math.min(expires, seen + idle + touch)
  return now < at and 'live' or 'expired', at, seen + touch
end

-- The state of a token's session, as far as the token is good for it; of a live one also when it ends, since when activity is
-- due and when the token is to be renewed.
local function find(hash, glanced)
  local t = redis.call('HMGET', TOKEN .. hash, 'session', 'issuedAt', 'nonce', 'era', 'validUntil', 'predecessor', 'successor')
  if not t[1] then return 'missing' end
  local s = (glanced and glance or read)(t[1])
  local state, at, due = state_of(s, glanced)
  if state ~= 'live' then return state, t, s end
  local issued = number(t[2])
  if not issued or t[5] and not number(t[5]) then return 'broken', t, s end
  if t[4] ~= s[ERA] or t[5] and number(t[5]) <= now then return 'superseded', t, s end
  return state, t, s, at, due, issued + number(s[RENEW])
end

-- A session is written: its fields, with a stamp of its own.
local function write(id, s, ...)
  s[STAMP] = text(math.max(micros, (number(s[STAMP]) or 0) + 1))
  redis.call('HSET', SESSION .. id, 'stamp', s[STAMP], ...)
end

-- What the caller learns of a session.
local function row(state, id, s, nonce)
  return { state, id, s[PRINCIPAL], redis.call('GET', CONTENT .. id), s[DATAVERSION], s[VERSION], s[CREATEDAT], s[LASTSEENAT],
    s[IDLE], s[EXPIRESAT], nonce or false, s[ACTOR] }
end

-- The same of a live one in one piece, with its stamp and until when it need only be confirmed: a text is made, sent and read in
-- half the time of a list. No name and no JSON holds a NUL.
local function line(id, s, nonce, upto)
  return table.concat({ 'live', id, s[PRINCIPAL] or '', s[DATAVERSION] or '', s[VERSION] or '', s[CREATEDAT] or '', s[LASTSEENAT], s[IDLE],
    s[EXPIRESAT], nonce or '', s[ACTOR] or '', s[STAMP] or '', upto or '', redis.call('GET', CONTENT .. id) or '' }, '\0')
end

-- The two lines of what a session holds, none if it is not there.
local function content(id)
  local text = redis.call('GET', CONTENT .. id)
  local at = text and string.find(text, '\\n', 1, true)
  if at then return string.sub(text, 1, at - 1), string.sub(text, at + 1) end
end

local function hold(id, device, data) redis.call('SET', CONTENT .. id, device .. '\\n' .. data) end

-- What cannot be done for one takes no other down.
local function each(list, f)
  local answers = {}
  for i, one in ipairs(list) do
    local ok, answer = pcall(f, one)
    answers[i] = ok and answer or { 'failed', type(answer) == 'table' and answer.err or tostring(answer) }
  end
  return answers
end

local function in_parts(list, f)
  for from = 1, #list, ${most} do f(unpack(list, from, math.min(from + ${most - 1}, #list))) end
end

-- Tells all instances.
local function tell(ids)
  for from = 1, #ids, ${told} do
    redis.call('PUBLISH', CHANNEL, table.concat(ids, ' ', from, math.min(from + ${told - 1}, #ids)))
  end
end

-- Writes that a token was presented: the activity if it is due, and the end of grace for the token before.
local function present(hash, t, s)
  local due = number(s[LASTSEENAT]) + number(s[TOUCH]) < now
  if due and s[PRINCIPAL] then redis.call('ZADD', DEADLINES .. s[PRINCIPAL], 'XX', text(deadline(s, now)), t[1]) end
  if t[6] then
    if redis.call('EXISTS', TOKEN .. t[6]) == 1 then redis.call('HSET', TOKEN .. t[6], 'validUntil', text(now + GRACE)) end
    redis.call('HDEL', TOKEN .. hash, 'predecessor')
  end
  if due then s[LASTSEENAT] = text(now) end
  if due or t[6] then write(t[1], s, 'lastSeenAt', s[LASTSEENAT]) end
end

-- A place among the sessions of the principal, as the newest.
local function place(principal, id, at)
  local newest = redis.call('ZRANGE', ORDER .. principal, -1, -1, 'WITHSCORES')
  redis.call('ZADD', ORDER .. principal, text(math.max(micros, newest[2] and newest[2] + 1 or 0)), id)
  redis.call('ZADD', DEADLINES .. principal, text(at), id)
end

-- Expired sessions, of a principal if it is given, stay so though the clock be set back: nobody would count or end them.
local function drop(ids, principal)
  if #ids == 0 then return end
  for _, id in ipairs(ids) do
    if redis.call('EXISTS', SESSION .. id) == 1 then redis.pcall('HSET', SESSION .. id, 'stamp', '0') end
  end
  if not principal then return end
  redis.call('ZREM', ORDER .. principal, unpack(ids))
  redis.call('ZREM', DEADLINES .. principal, unpack(ids))
end

local function drop_expired(principal)
  drop(redis.call('ZRANGEBYSCORE', DEADLINES .. principal, '-inf', text(now), 'LIMIT', 0, ${dropped}), principal)
end

-- Ends sessions, those of a principal if it is given.
local function finish(ids, principal)
  local ends, at = {}, text(now)
  for i, id in ipairs(ids) do
    redis.call('HSET', SESSION .. id, 'endedAt', at, 'stamp', '0')
    redis.call('DEL', CONTENT .. id)
    ends[2 * i - 1], ends[2 * i] = at, id
  end
  in_parts(ends, function(...) redis.call('ZADD', ENDS, ...) end)
  if principal then
    in_parts(ids, function(...)
      redis.call('ZREM', ORDER .. principal, ...)
      redis.call('ZREM', DEADLINES .. principal, ...)
    end)
  end
  tell(ids)
end

-- Ends the oldest so that no more than so many live, beside the one that is spared. If they are a great many, only some, and
-- tells that there are more.
local function make_room(principal, keep, spared)
  local live = redis.call('ZCOUNT', DEADLINES .. principal, '(' .. text(now), '+inf')
  if spared and redis.call('ZSCORE', DEADLINES .. principal, spared) then live = live - 1 end
  local displaced, from = {}, 0
  while live > keep and #displaced < AT_ONCE do
    local ids = redis.call('ZRANGE', ORDER .. principal, from, from + 99)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local at = live > keep and #displaced < AT_ONCE and id ~= spared and redis.call('ZSCORE', DEADLINES .. principal, id)
      if at and tonumber(at) > now then
        live = live - 1
        if redis.call('EXISTS', SESSION .. id) == 1 then displaced[#displaced + 1] = id end
      end
    end
    from = from + #ids
  end
  drop_expired(principal)
  finish(displaced, principal)
  return displaced, live > keep and #displaced == AT_ONCE
end

local function is_revoked_since(principal, epoch)
  if epoch == '' then return false end
  return tonumber(redis.call('ZSCORE', EPOCHS, principal) or 0) > tonumber(epoch)
end

-- A token of a session; the one before it is alive until it was presented, if it is given.
local function issue(hash, id, nonce, era, predecessor)
  redis.call('HSET', TOKEN .. hash, 'session', id, 'issuedAt', text(now), 'nonce', nonce, 'era', era)
  if predecessor then redis.call('HSET', TOKEN .. hash, 'predecessor', predecessor) end
end

-- Makes a token that leads to no live session one of another, which took its place: one that was replaced. It stays where it
-- is among the tokens of its own session.
local function follow(hash, id)
  local state, t = find(hash)
  if not t or state == 'live' or state == 'superseded' or state == 'broken' then return end
  redis.call('HSETNX', TOKEN .. hash, 'was', t[1])
  redis.call('HSET', TOKEN .. hash, 'session', id, 'era', '0', 'validUntil', text(now))
  redis.call('HDEL', TOKEN .. hash, 'predecessor')
  redis.call('HSET', SESSION .. id, 'instead', hash)
end

-- Takes the oldest tokens away that are dead for so long that nobody need be told any more; tells the first that is left.
local function forget(s)
  local first = s[FIRST]
  for _ = 1, ${forgotten} do
    local t = redis.call('HMGET', TOKEN .. first, 'validUntil', 'era', 'successor')
    local dead = number(t[1]) or t[2] ~= s[ERA] and number(s[CREATEDAT])
    if not t[3] or not dead or dead >= now - DAY then break end
    redis.call('DEL', TOKEN .. first)
    first = t[3]
  end
  return first
end
`
