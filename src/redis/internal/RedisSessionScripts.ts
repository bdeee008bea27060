/**
 * The scripts of `RedisSessionStore`: every operation is one of them, so nothing can come between its reading and its writing.
 *
 * **Details**
 *
 * None is marked as one that only reads, also where it does, so that a replica refuses it: what a replica knows may be old,
 * or nothing at all while it is being filled, and would be taken for the end of sessions. What takes no more memory than
 * it frees, give or take some bytes, is allowed when the memory is full: nobody is refused, and everybody can log out.
 *
 * Keys are not declared, because which ones a script needs depends on what it reads: from a token to its session, to the
 * sessions of the same principal. Redis Cluster cannot run that.
 */
import * as Redis from "effect/persistence/Redis"
import { prelude, sessionKey } from "./RedisSessionLua.ts"

/** Arguments are text, in the order that the script's comment says. */
export type Script = ReturnType<typeof make>["load"]

/** The scripts over the keys with this prefix. */
export const make = (prefix: string) => {
  const common = prelude(prefix)
  const script = (lua: string) =>
    Redis.script((...parameters: ReadonlyArray<string>) => parameters, {
      lua,
      numberOfKeys: 0
    }).withReturnType<unknown>()
  const growing = (body: string) => script(`#!lua\n${common}${body}`)
  const always = (body: string, steps = common) => script(`#!lua flags=allow-oom\n${steps}${body}`)

  return {
    /**
     * Hashes. For each what it is and the session, and for a live one its stamp and until when it need only be confirmed,
     * in milliseconds.
     */
    load: always(`
return each(ARGV, function(hash)
  local state, t, s, at, due, renewal = find(hash, true)
  if state == 'broken' then return row(state, t[1], s) end
  if state ~= 'live' then return { state } end
  if due < now or t[6] then
    present(hash, t, s)
    at, due = deadline(s, number(s[LASTSEENAT])), number(s[LASTSEENAT]) + number(s[TOUCH])
  end
  -- Until then nothing is due and nothing over for a client that presents the token, if nobody writes.
  local upto = math.min(at, due + 1, renewal, number(t[5]) or math.huge)
  return line(t[1], s, renewal <= now and t[3], text(upto))
end)`),
    /** Ids. The milliseconds of the clock, and for each session its stamp, null where there is none. */
    confirm: always(
      `
local moment = redis.call('TIME')
local answers = { string.format('%.0f', moment[1] * 1000 + math.floor(moment[2] / 1000)) }
for i, id in ipairs(ARGV) do
  local stamp = redis.pcall('HGET', '${sessionKey(prefix)}' .. id, 'stamp')
  answers[i + 1] = type(stamp) == 'string' and stamp
end
return answers`,
      ""
    ),
    /** A hash. What it is. */
    touch: always(`
local state, t, s = find(ARGV[1])
if state == 'live' then present(ARGV[1], t, s) end
return { state, t and t[1] }`),

    /**
     * Id, principal or '', data, its version, device; idle timeout, touch interval, absolute timeout and age of renewal in
     * milliseconds; how many other sessions the principal may keep; hash, nonce, epoch or '', the hash of a token that it
     * takes the place of, or '', and the actor or ''. Where a great many had to make room, they did and nothing else: it is
     * to be tried again.
     */
    create: growing(`
local id, principal, data, dataVersion, device, idle, touch, absolute, renew, keep, hash, nonce, epoch, instead, actor =
  unpack(ARGV)
if redis.call('EXISTS', TOKEN .. hash) == 1 then return { 'in use' } end
redis.call('ZCARD', ENDS)
local displaced, more = {}, false
if principal ~= '' then
  if is_revoked_since(principal, epoch) then return { 'revoked' } end
  redis.call('ZCARD', ORDER .. principal)
  displaced, more = make_room(principal, tonumber(keep))
end
if more then return { 'more', displaced } end
local at = text(now)
write(id, {}, 'dataVersion', dataVersion, 'version', '1',
  'createdAt', at, 'lastSeenAt', at, 'idle', idle, 'touch', touch, 'renew', renew, 'expiresAt', text(now + absolute),
  'era', '1', 'first', hash, 'last', hash)
if principal ~= '' then redis.call('HSET', SESSION .. id, 'principal', principal) end
if actor ~= '' then redis.call('HSET', SESSION .. id, 'actor', actor) end
hold(id, device, data)
issue(hash, id, nonce, '1')
redis.call('ZADD', ENDS, text(now + absolute), id)
local s = read(id)
if principal ~= '' then place(principal, id, deadline(s, now)) end
-- Last, and whatever is wrong with that token: the session is there.
if instead ~= '' then pcall(follow, instead, id) end
return { row('live', id, s), displaced }`),

    /**
     * Hash, principal, data or '', its version; device; the four times and how many others, as in \`create\`; the new hash,
     * nonce, epoch or ''.
     */
    authenticate: growing(`
local hash, principal, data, dataVersion, device, idle, touch, absolute, renew, keep, next, nonce, epoch = unpack(ARGV)
local state, t, s = find(hash)
if state ~= 'live' then return { state, t and t[1] } end
if redis.call('EXISTS', TOKEN .. next) == 1 then return { 'in use' } end
if is_revoked_since(principal, epoch) then return { 'revoked' } end
local id, before = t[1], s[PRINCIPAL]
if data == '' then
  local _, held = content(id)
  if not held then return row('broken', id, s) end
  data, dataVersion = held, s[DATAVERSION]
end
redis.call('ZCARD', ENDS)
redis.call('ZCARD', ORDER .. principal)
if before then redis.call('ZCARD', DEADLINES .. before) end
local displaced, more = make_room(principal, tonumber(keep), id)
if more then return { 'more', displaced } end
local first = forget(s)
if before and before ~= principal then
  redis.call('ZREM', ORDER .. before, id)
  redis.call('ZREM', DEADLINES .. before, id)
end
local at, era = text(now), text(number(s[ERA]) + 1)
write(id, s, 'principal', principal, 'dataVersion', dataVersion,
  'version', text(number(s[VERSION]) + 1), 'createdAt', at, 'lastSeenAt', at, 'idle', idle,
  'touch', touch, 'renew', renew, 'expiresAt', text(now + absolute), 'era', era, 'first', first, 'last', next)
if s[ACTOR] then redis.call('HDEL', SESSION .. id, 'actor') end
redis.call('HSET', TOKEN .. s[LAST], 'successor', next)
hold(id, device, data)
issue(next, id, nonce, era)
redis.call('ZADD', ENDS, text(now + absolute), id)
local changed = read(id)
place(principal, id, deadline(changed, now))
return { row('live', id, changed), displaced }`),

    /** Hash, the next one, nonce. */
    renew: growing(`
local hash, next, nonce = unpack(ARGV)
local state, t, s = find(hash)
if state ~= 'live' then return { state, t and t[1] } end
if t[7] and t[7] ~= next then return { 'superseded' } end
if not t[7] then
  if redis.call('EXISTS', TOKEN .. next) == 1 then return { 'in use' } end
  present(hash, t, s)
  redis.call('HSET', TOKEN .. hash, 'successor', next)
  issue(next, t[1], nonce, s[ERA], hash)
  write(t[1], s, 'first', forget(s), 'last', next)
end
return row('live', t[1], s)`),

    /** Hash, the next one, nonce. */
    rotate: growing(`
local hash, next, nonce = unpack(ARGV)
local state, t, s = find(hash)
if state ~= 'live' then return { state, t and t[1] } end
if redis.call('EXISTS', TOKEN .. next) == 1 then return { 'in use' } end
local id = t[1]
if not content(id) then return row('broken', id, s) end
-- The tokens that have no end yet: the last, and the one before while the last was not presented. No login tells of theirs.
local before = redis.call('HGET', TOKEN .. s[LAST], 'predecessor')
before = before and redis.call('HGET', TOKEN .. before, 'session') and before
local first, era, at = forget(s), text(number(s[ERA]) + 1), text(now)
if before then redis.call('HSET', TOKEN .. before, 'validUntil', at) end
redis.call('HSET', TOKEN .. s[LAST], 'successor', next, 'validUntil', at)
issue(next, id, nonce, era)
write(id, s, 'era', era, 'first', first, 'last', next)
return row('live', id, s)`),

    /** Id; idle timeout, touch interval and absolute timeout in milliseconds. */
    setExpiry: always(`
local id, idle, touch, absolute = unpack(ARGV)
local s = read(id)
local state = state_of(s)
if state == 'broken' or state == 'live' and not content(id) then return row('broken', id, s) end
if state ~= 'live' then return { state } end
redis.call('ZCARD', ENDS)
s[IDLE], s[TOUCH], s[EXPIRESAT], s[LASTSEENAT] = idle, touch, text(now + absolute), text(now)
if s[PRINCIPAL] then redis.call('ZADD', DEADLINES .. s[PRINCIPAL], 'XX', text(deadline(s, now)), id) end
redis.call('ZADD', ENDS, s[EXPIRESAT], id)
write(id, s, 'idle', idle, 'touch', touch, 'expiresAt', s[EXPIRESAT], 'lastSeenAt', s[LASTSEENAT])
return row('live', id, s)`),

    /** Id, version, data, its version. */
    update: growing(`
local id, version, data, dataVersion = unpack(ARGV)
local s = read(id)
local state = state_of(s)
local device = state == 'live' and content(id)
if state == 'broken' or state == 'live' and not device then return row('broken', id, s) end
if state ~= 'live' then return { state } end
if s[VERSION] ~= version then return { 'conflict' } end
s[DATAVERSION], s[VERSION] = dataVersion, text(number(version) + 1)
hold(id, device, data)
write(id, s, 'dataVersion', dataVersion, 'version', s[VERSION])
return row('live', id, s)`),

    /** Id. 1 if it was live; what cannot be read can be ended. */
    revoke: always(`
local s = read(ARGV[1])
local state = state_of(s)
if state == 'expired' then drop({ ARGV[1] }, s[PRINCIPAL]) end
if state ~= 'live' and state ~= 'broken' then return 0 end
redis.call('ZCARD', ENDS)
finish({ ARGV[1] }, s[PRINCIPAL])
return 1`),

    /**
     * Principal, id of a session to spare or '', and '' to begin with, then up to which place in the order, which the answer
     * before told. That place, the ids of those that were ended, and 1 if there may be more.
     */
    revokeAll: always(`
local principal, spared, upto = unpack(ARGV)
redis.call('ZCARD', DEADLINES .. principal)
redis.call('ZCARD', ENDS)
if upto == '' then
  local last = redis.call('ZSCORE', EPOCHS, principal)
  local newest = redis.call('ZRANGE', ORDER .. principal, -1, -1, 'WITHSCORES')
  local epoch = math.max(micros, last and last + 1 or 0)
  redis.call('ZADD', EPOCHS, text(epoch), principal)
  upto = text(math.max(epoch, tonumber(newest[2] or 0)))
end
local ids = redis.call('ZRANGEBYSCORE', ORDER .. principal, '-inf', upto, 'LIMIT', 0, AT_ONCE)
local ended, dropped = {}, {}
for _, id in ipairs(ids) do
  if id ~= spared then
    local at = redis.call('ZSCORE', DEADLINES .. principal, id)
    local lives = (not at or tonumber(at) > now) and redis.call('EXISTS', SESSION .. id) == 1
    local list = lives and ended or dropped
    list[#list + 1] = id
  end
end
finish(ended, principal)
drop(dropped, principal)
return { upto, ended, #ids == AT_ONCE and 1 or 0 }`),

    /** Principal. */
    epoch: always(`return redis.call('ZSCORE', EPOCHS, ARGV[1]) or '0'`),

    /** Principal. The ids of its sessions, the newest first, some of which may have expired. */
    ids: always(`return redis.call('ZREVRANGE', ORDER .. ARGV[1], 0, -1)`),
    /** Ids. For each its state and the session. */
    sessions: always(`
return each(ARGV, function(id)
  local s = glance(id)
  local state = state_of(s, true)
  if state == 'live' then return line(id, s) end
  return state == 'broken' and row(state, id, s) or { state }
end)`),
    /**
     * A place as this script tells it, and how many sessions to look at. The next place, or '' at the end, and for each its
     * state and the session, if it is a visitor's.
     *
     * Whatever its end, a session stands at one place of the server's hash table, in whose order it is told; a table that is
     * small has none, and the order is that of the ids. So a place is the id of the process, whose table it is; where it is
     * in the table; up to which id all were told while it was small; and up to which id those at that place were told.
     */
    visitors: always(`
local run, at, floor, rest = string.match(ARGV[1], '^(%x*)%.(%w+)%.([^.]*)%.([^.]*)$')
local limit = tonumber(ARGV[2])
local known, info = pcall(redis.call, 'INFO', 'server')
local here = known and string.match(info, 'run_id:(%x+)') or ''
-- Another process has another table: what was told of the one before is told once more, and nothing is missed.
if run ~= here then at, rest = '0', '' end
-- What was found together and is not told yet: the table may be another one by now, where it is in several places.
local ids, told, left, next = {}, {}, {}, at
for id in string.gmatch(rest, '[^,]+') do ids[#ids + 1] = id end
if #ids < limit and at ~= 'over' then
  local found, more = redis.call('ZSCAN', ENDS, at, 'COUNT', math.max(limit - #ids - 8, 1)), {}
  for i = 1, #found[2], 2 do
    if found[2][i] > floor then more[#more + 1] = found[2][i] end
  end
  table.sort(more)
  for _, id in ipairs(more) do ids[#ids + 1] = id end
  next = found[1] == '0' and 'over' or found[1]
end
for i, id in ipairs(ids) do
  if i <= limit then told[i] = id else left[#left + 1] = id end
end
-- All in one piece: the next page begins behind the last of this one.
if at == '0' and next == 'over' and #left > 0 then next, floor, left = '0', told[#told], {} end
local over = next == 'over' and #left == 0
return { over and '' or table.concat({ here, next, floor, table.concat(left, ',') }, '.'), each(told, function(id)
  local s = glance(id)
  local state = state_of(s, true)
  if s[PRINCIPAL] or state ~= 'live' and state ~= 'broken' then return { 'missing' } end
  return state == 'live' and line(id, s) or row(state, id, s)
end) }`),
    /** Ids. For each its state. */
    states: always(`return each(ARGV, function(id) return { state_of(read(id)) } end)`),

    /**
     * Limit. How many sessions were removed, the microseconds it took (0 where the server cannot tell), and 1 if it stopped
     * because they had a great many tokens, of which one turn removes only so many.
     */
    prune: always(`
local limit = tonumber(ARGV[1])
-- Since Redis 7.2 the time stands still while a script runs; since 7.4 there is a clock of what it takes.
local has_clock, began = pcall(function() return os.clock() end)
local budget, pruned, more = limit * 8 + 100, 0, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', '(' .. text(now - DAY), 'LIMIT', 0, limit)) do
  local ok, s = pcall(read, id)
  if not ok then s = {} end
  local hash = s[FIRST]
  while hash and budget > 0 do
    local known, t = pcall(redis.call, 'HMGET', TOKEN .. hash, 'successor', 'session')
    if not known or t[2] == id then redis.call('DEL', TOKEN .. hash) end
    hash, budget = known and t[1], budget - 1
  end
  if hash then
    redis.call('HSET', SESSION .. id, 'first', hash)
    more = 1
    break
  end
  if s[PRINCIPAL] then
    redis.call('ZREM', ORDER .. s[PRINCIPAL], id)
    redis.call('ZREM', DEADLINES .. s[PRINCIPAL], id)
  end
  local instead = ok and redis.call('HGET', SESSION .. id, 'instead')
  local t = instead and redis.call('HMGET', TOKEN .. instead, 'session', 'was')
  if t and t[1] == id then
    if redis.call('EXISTS', SESSION .. t[2]) == 1 then redis.call('HSET', TOKEN .. instead, 'session', t[2])
    else redis.call('DEL', TOKEN .. instead) end
  end
  redis.call('DEL', SESSION .. id, CONTENT .. id)
  redis.call('ZREM', ENDS, id)
  pruned = pruned + 1
end
local epochs = redis.call('ZRANGEBYSCORE', EPOCHS, '-inf', '(' .. text(micros - DAY * 1000), 'LIMIT', 0, math.min(limit, ${1000}))
if #epochs > 0 then redis.call('ZREM', EPOCHS, unpack(epochs)) end
local over = redis.call('TIME')
local took = has_clock and (os.clock() - began) * 1000000 or over[1] * 1000000 + over[2] - micros
return { pruned, text(took), more }`),
    /** Milliseconds since the oldest tombstone could have been pruned. */
    pruneLag: always(`
local oldest = redis.call('ZRANGE', ENDS, 0, 0, 'WITHSCORES')[2]
return text(oldest and math.max(now - DAY - oldest, 0) or 0)`),

    /** The milliseconds of the server's clock. */
    ping: always(`
redis.call('ZCARD', ENDS)
return text(now)`)
  }
}
