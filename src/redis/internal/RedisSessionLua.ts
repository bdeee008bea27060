/**
 * What the scripts of `RedisSessionStore` read and write: the keys, and sessions and tokens as the texts that they are kept in.
 *
 * **Details**
 *
 * Keys, under the store's prefix. An `<id>` is that of a session without `s_` and hyphens; a `<hash>` is the first half of a
 * token's SHA-256, 128 bits in 32 digits. Every key costs the server some 100 bytes beside what it holds, so they are few.
 *
 * - `s:<id>`, string: the session, from its creation until it is pruned, see {@link fields}. Its `stamp` is the moment of the last
 *   write to it or to one of its tokens (microseconds), no two alike, by which it is known again; 0 once it is over for good,
 *   whatever the server's clock says then: it was ended, or is not among those of its principal any more. Behind the fields are
 *   its principal, the operator who acts in it and, until it is ended, its device and its data, a line each.
 * - `t:<hash>`, string: whose token it is, as long, see {@link tokenFields}. From `first` to `last` of the session, each token
 *   names the `next`, so that the script that removes the session finds them all. One that was presented in vain belongs to the
 *   session that took the place of its own, and knows whose it `was`.
 * - `p:<principal>`, sorted set: its sessions that are not over for good, in the order of their logins (microseconds). One that is
 *   not there cannot live again, whichever way the clock is set.
 * - `d:<principal>`, sorted set: the same by the moment of their end for idleness or age (milliseconds), from when they are more
 *   than a few until the last of them goes. How many of them live is one look-up then, and those that expired are dropped
 *   in the next login without looking at the others; of few sessions, each is looked at.
 * - `b:<number>`, sorted set: a few dozen sessions that were created one after the other, each by its end (milliseconds), the
 *   absolute one until it is ended. A session stays in its block until it is pruned.
 * - `blocks`, `due`, sorted sets: the blocks by their number, and by a moment before which none of theirs ends (milliseconds).
 * - `epochs`, sorted set: principals by the moment at which all their sessions were revoked (microseconds).
 *
 * No key has a time to live: the server would evict those first under a `volatile-` policy, and a session with a part
 * missing is neither there nor gone. A script's writes take effect together or, if the server is killed, not at all. They
 * would stay if the script failed halfway: so whatever can fail on strange data is read before the first write.
 *
 * Times come from the server's clock, once per script. Lua's numbers are doubles, exact for microseconds until the year
 * 2255, but `tostring` keeps 14 digits: `text` and `hex` keep all. Data goes through as it is, never through a codec of Lua's.
 */
import * as Duration from "effect/Duration"
import * as SessionTimes from "../../session/SessionTimes.ts"

/**
 * The fields of a session in the order of its text, a space between two, and NULs before and behind the two names that follow:
 * neither names nor JSON hold one. Moments and timeouts are milliseconds, in hexadecimal digits; `seen` and `expires` count in
 * decimal ones from `created`, below zero where the clock was set back. Where `touch` is what follows from `idle`, `first` is
 * `last`, or there is no `ended` or `instead`, there is nothing between the spaces.
 */
export const fields = [
  "stamp",
  "version",
  "dataVersion",
  "created",
  "seen",
  "idle",
  "touch",
  "renew",
  "expires",
  "era",
  "ended",
  "block",
  "last",
  "first",
  "instead"
] as const

const places = [...fields, "principal", "actor", "at"]
const constants = `local ${places.map((name) => name.toUpperCase()).join(", ")} = ${places.map((_, index) => index + 1).join(", ")}`
/** No part of it can be read in two ways: where one could, Lua would try all. */
const layout = `^${"(%S*) ".repeat(fields.length - 1)}([^ %z]*)%z([^%z]*)%z([^%z]*)%z()`

/** The same for one that was not ended, as far as its era, with a stamp. */
const glanced = "^%x%x+ %d+ %-?%d+ (%x+) (%-?%d+) (%x+) (%x*) (%x+) (%-?%d+) (%d+)  "

/**
 * What a token has only at times, in the order of its text, which begins with its session's id, the moment of its issue in eleven
 * hexadecimal digits and its era.
 */
export const tokenFields = ["nonce", "valid", "before", "next", "was"] as const

/** What a token may hold of these. */
const tokenLayout = `^${tokenFields.map(() => " (%S*)").join("")}$`

/** Sessions in a block. The server keeps a set of up to 128 in one piece, in a third of the memory. */
const inBlock = 64
/** The channel on which the ends of sessions are told. */
export const channelOf = (prefix: string): string => `${prefix}:ended`

/** What a session's id stands behind in its key. */
export const sessionKey = (prefix: string): string => `${prefix}:s:`

/** Key names, sessions and tokens for the store with this prefix, which holds no character that means something in Lua. */
export const prelude = (prefix: string, clock = "redis.call('TIME')"): string => `
local SESSION, TOKEN, ORDER, DEADLINES = '${sessionKey(prefix)}', '${prefix}:t:', '${prefix}:p:', '${prefix}:d:'
local BLOCK_OF, BLOCKS, DUE = '${prefix}:b:', '${prefix}:blocks', '${prefix}:due'
local EPOCHS, CHANNEL = '${prefix}:epochs', '${channelOf(prefix)}'
local GRACE, DAY = ${Duration.toMillis(SessionTimes.renewalGrace)}, ${Duration.toMillis(SessionTimes.tombstoneAge)}
${constants}

local moment = ${clock}
local micros = moment[1] * 1000000 + moment[2]
local now = math.floor(micros / 1000)

local function text(number) return string.format('%.0f', number) end
local function hex(number) return string.format('%x', number) end

-- A count or a time, or nil.
local function number(value, base)
  local n = value and tonumber(value, base or 10)
  if n and n >= 0 and n < 9007199254740992 then return n end
end

-- The id that everybody knows.
local function long(id)
  local sub = string.sub
  return table.concat({ 's_' .. sub(id, 1, 8), sub(id, 9, 12), sub(id, 13, 16), sub(id, 17, 20), sub(id, 21) }, '-')
end
local function short(id) return (string.gsub(string.sub(id, 3), '-', '')) end

-- By what a token is known here.
local function name(hash) return string.sub(hash, 1, 32) end

-- What deals with older versions, see there: it tells whether something that is not here was brought here.
local adopt, adopt_token, adopt_all, adopt_some, trip_token, trip_session, trip_principal

local function parse(v)
  local s = { string.match(v, '${layout}') }
  s.text = v
  return s
end

-- A session, or nil. Where its text makes no sense, it has no fields.
local function read(id)
  local v = redis.call('GET', SESSION .. id)
  if not v and adopt(id) then v = redis.call('GET', SESSION .. id) end
  return v and parse(v)
end

-- The device and the data as they stand there.
local function content(s) return string.sub(s.text, s[AT]) end

-- The two lines of what a session holds, none if they are not there.
local function lines(s)
  local all = content(s)
  local at = string.find(all, '\\n', 1, true)
  if at then return string.sub(all, 1, at - 1), string.sub(all, at + 1) end
end

local function put(id, s, held)
  local head = table.concat({ table.concat(s, ' ', 1, ${fields.length}), s[PRINCIPAL], s[ACTOR], '' }, '\\0')
  s.text, s[AT] = head .. held, #head + 1
  redis.call('SET', SESSION .. id, s.text)
end

-- A session is written, with a stamp of its own.
local function write(id, s, held)
  s[STAMP] = hex(math.max(micros, (number(s[STAMP], 16) or 0) + 1))
  put(id, s, held or content(s))
end

local function touch_after(idle) return math.min(math.ceil(idle / ${SessionTimes.touchShare}), ${Duration.toMillis(SessionTimes.longestTouchInterval)}) end

-- Until when it may be idle, how much longer at most, and its end, from texts of milliseconds; seen now.
local function set_times(s, idle, touch, absolute)
  local created = tonumber(s[CREATED], 16)
  s[IDLE] = hex(tonumber(idle))
  s[TOUCH] = tonumber(touch) == touch_after(tonumber(idle)) and '' or hex(tonumber(touch))
  s[EXPIRES], s[SEEN] = text(now - created + tonumber(absolute)), text(now - created)
end

-- When the session ends if nobody comes any more, and since when activity is due; nil where that cannot be read.
local function times(s)
  local created, seen, idle, expires = number(s[CREATED], 16), tonumber(s[SEEN]), number(s[IDLE], 16), tonumber(s[EXPIRES])
  local touch = idle and (s[TOUCH] == '' and touch_after(idle) or number(s[TOUCH], 16))
  if created and seen and touch and expires and expires == expires and math.abs(expires) < 9007199254740992 then
    return math.min(created + expires, created + seen + idle + touch), created + seen + touch
  end
end

-- Of the text of a session that may be live, when it ends, since when activity is due, the age of renewal and its era. It takes
-- half the time; where there is nothing, the session must be read.
local function glance(kept)
  local created, seen, idle, touch, renew, expires, era = string.match(kept, '${glanced}')
  if not created then return end
  created, seen, idle = tonumber(created, 16), tonumber(seen), tonumber(idle, 16)
  local due = created + seen + (touch == '' and touch_after(idle) or tonumber(touch, 16))
  return math.min(created + expires, due + idle), due, tonumber(renew, 16), era
end

-- 'broken' is what cannot be read: the caller finds out where. Of one that can be, also when it ends and since when activity
-- is due.
local function state_of(s)
  if not s then return 'missing' end
  if not s[AT] then return 'broken' end
  if s[ENDED] ~= '' then return 'revoked' end
  if s[STAMP] == '0' then return 'expired' end
  local at, due = times(s)
  if not (at and number(s[RENEW], 16) and number(s[VERSION]) and number(s[ERA]) and #s[LAST] == 32) then return 'broken' end
  return now < at and 'live' or 'expired', at, due
end

-- The first of its tokens that is left.
local function first_of(s) return s[FIRST] ~= '' and s[FIRST] or s[LAST] end

-- A token, or nil.
local function token(hash)
  local v = redis.call('GET', TOKEN .. hash)
  if not v then return end
  local t = { id = string.sub(v, 1, 32), issued = number(string.sub(v, 33, 43), 16) }
  local rest
  t.era, rest = string.match(v, '^(%d+)(.*)$', 44)
  if rest and rest ~= '' then
    local found = { string.match(rest, '${tokenLayout}') }
    for i, field in ipairs({ ${tokenFields.map((field) => `'${field}'`).join(", ")} }) do
      if found[i] ~= '' then t[field] = found[i] end
    end
  end
  return t
end

local function keep(hash, t)
  local rest = { '', t.nonce or '', t.valid or '', t.before or '', t.next or '', t.was or '' }
  local more = table.concat(rest, ' ')
  redis.call('SET', TOKEN .. hash, t.id .. string.format('%011x', t.issued or 0) .. t.era .. (more ~= '     ' and more or ''))
end

-- The earliest number of a block that has room, and whether it is a new one.
local function roomy()
  local newest = redis.call('ZRANGE', BLOCKS, -1, -1)[1]
  redis.call('ZCARD', DUE)
  if newest and redis.call('ZCARD', BLOCK_OF .. newest) < ${inBlock} then return newest end
  return text((tonumber(newest) or 0) + 1)
end

-- Writes when a session is to be pruned.
local function ends(id, block, at)
  redis.call('ZADD', BLOCK_OF .. block, text(at), id)
  redis.call('ZADD', DUE, 'LT', text(at), block)
end

local function settle(id, block, at)
  redis.call('ZADD', BLOCKS, block, block)
  ends(id, block, at)
end
`
