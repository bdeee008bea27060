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
import * as RedisSessionBlocks from "./RedisSessionBlocks.ts"
import { legacy } from "./RedisSessionLegacy.ts"
import { prelude, sessionKey } from "./RedisSessionLua.ts"
import { steps } from "./RedisSessionSteps.ts"

/** Arguments are text, in the order that the script's comment says. */
export type Script = ReturnType<typeof make>["load"]

/** The scripts over the keys with this prefix. Ids come and go without `s_` and hyphens, hashes whole. `clock`: see `RedisClock`. */
export const make = (prefix: string, clock: string) => {
  const common = `${prelude(prefix, clock)}${steps}${legacy(prefix)}`
  const script = (lua: string) =>
    Redis.script((...parameters: ReadonlyArray<string>) => parameters, {
      lua,
      numberOfKeys: 0
    }).withReturnType<unknown>()
  const growing = (body: string) => script(`#!lua\n${common}${body}`)
  const always = (body: string, all = common) => script(`#!lua flags=allow-oom\n${all}${body}`)

  return {
    /**
     * A nonce, and hashes. For each what it is and the session, and for a live one until when it need only be confirmed, in
     * milliseconds. The nonce is that of the tokens that are to be renewed and have none: so parallel loads, which give as many
     * nonces, are told one, and tokens that are never renewed keep none.
     */
    load: always(`
-- Most are live, and nothing is due.
local function quick(full)
  local t = redis.call('GET', TOKEN .. name(full))
  if not t then return end
  local id, issued, era = string.sub(t, 1, 32), tonumber(string.sub(t, 33, 43), 16), string.match(t, '^%d+$', 44)
  local kept = issued and era and redis.call('GET', SESSION .. id)
  if not kept then return end
  local at, due, renew, its = glance(kept)
  if its ~= era then return end
  local upto = math.min(at, due + 1, issued + renew)
  if now < upto then return row('live', id, kept, '', text(upto)) end
end
return each(ARGV, function(full)
  local told, kept = quick(full)
  if told then return told, kept end
  local state, t, s, at, due, renewal = find(full)
  if state == 'broken' then return row(state, t.id, s.text) end
  if state ~= 'live' then return state end
  if present(name(full), t, s, due) then at, due = times(s) end
  if renewal <= now and not t.nonce then
    t.nonce = ARGV[1]
    keep(name(full), t)
  end
  -- Until then nothing is due and nothing over for a client that presents the token, if nobody writes.
  local upto = math.min(at, due + 1, renewal, number(t.valid) or math.huge)
  return row('live', t.id, s.text, renewal <= now and t.nonce, text(upto))
end, 2)`),
    /** Ids. The milliseconds of the clock, and for each session its stamp, null where there is none. */
    confirm: always(
      `
local moment = ${clock}
local answers = { string.format('%.0f', moment[1] * 1000 + math.floor(moment[2] / 1000)) }
for i, id in ipairs(ARGV) do
  -- What a user with an older version's rights may not do is done in two steps.
  local kept = redis.pcall('GETRANGE', '${sessionKey(prefix)}' .. id, 0, 15)
  if type(kept) ~= 'string' then kept = redis.pcall('GET', '${sessionKey(prefix)}' .. id) end
  answers[i + 1] = type(kept) == 'string' and string.match(kept, '^%x+') or false
end
return answers`,
      ""
    ),
    /** A hash. What it is. */
    touch: always(`
local state, t, s, at, due = find(ARGV[1])
if state == 'live' then present(name(ARGV[1]), t, s, due) end
return { state }`),
    /** A hash. What it is, and the session. */
    look: always(`
local state, t, s = find(ARGV[1])
if state ~= 'live' and state ~= 'broken' then return { state } end
return { row(state, t.id, s.text) }`),

    /**
     * Id, principal or '', data, its version, device; idle timeout, touch interval, absolute timeout and age of renewal in
     * milliseconds; how many other sessions the principal may keep; hash, epoch or '', the hash of a token that it takes the
     * place of, or '', and the actor or ''. Where a great many had to make room, they did and nothing else: it is to be tried
     * again.
     */
    create: growing(`
local id, principal, data, dataVersion, device, idle, touch, absolute, renew, keeps, hash, epoch, instead, actor = unpack(ARGV)
if in_use(hash) then return { 'in use' } end
local displaced, more = {}, false
if principal ~= '' then
  if is_revoked_since(principal, epoch) then return { 'revoked' } end
  adopt_all(principal)
  redis.call('ZCARD', ORDER .. principal)
  redis.call('ZCARD', DEADLINES .. principal)
end
local block = roomy()
if principal ~= '' then displaced, more = make_room(principal, tonumber(keeps)) end
if more then return { 'more', displaced } end
local s = { '0', '1', dataVersion, hex(now), '0', '', '', hex(tonumber(renew)), '', '1', '', block, name(hash), '', '', principal, actor }
set_times(s, idle, touch, absolute)
write(id, s, device .. '\\n' .. data)
issue(hash, id, '1')
settle(id, block, now + tonumber(absolute))
trip_session(id)
if principal ~= '' then
  place_last(principal, id)
  trip_principal(principal)
end
-- Last, and whatever is wrong with that token: the session is there.
if instead ~= '' then pcall(follow, instead, id, s) end
local told, kept = row('live', id, s.text)
return { told, kept, displaced }`),

    /**
     * Hash, principal, data or '', its version; device; the four times and how many others, as in `create`; the new hash,
     * epoch or ''.
     */
    authenticate: growing(`
local hash, principal, data, dataVersion, device, idle, touch, absolute, renew, keeps, next, epoch = unpack(ARGV)
local state, t, s = find(hash)
if state == 'broken' then return { row(state, t.id, s.text) } end
if state ~= 'live' then return { state } end
if in_use(next) then return { 'in use' } end
if is_revoked_since(principal, epoch) then return { 'revoked' } end
local id, before = t.id, s[PRINCIPAL]
if data == '' then
  local _, held = lines(s)
  if not held then return { row('broken', id, s.text) } end
  data, dataVersion = held, s[DATAVERSION]
end
adopt_all(principal)
redis.call('ZCARD', BLOCK_OF .. s[BLOCK])
redis.call('ZCARD', DUE)
for _, one in ipairs({ principal, before }) do
  redis.call('ZCARD', ORDER .. one)
  redis.call('ZCARD', DEADLINES .. one)
end
local displaced, more = make_room(principal, tonumber(keeps), id)
if more then return { 'more', displaced } end
if before ~= '' and before ~= principal then leave(before, { id }) end
succeed(s, name(next))
s[PRINCIPAL], s[ACTOR], s[DATAVERSION], s[VERSION] = principal, '', dataVersion, text(number(s[VERSION]) + 1)
s[ERA], s[CREATED], s[RENEW] = text(number(s[ERA]) + 1), hex(now), hex(tonumber(renew))
set_times(s, idle, touch, absolute)
write(id, s, device .. '\\n' .. data)
issue(next, id, s[ERA])
ends(id, s[BLOCK], now + tonumber(absolute))
place_last(principal, id)
trip_principal(principal)
local told, kept = row('live', id, s.text)
return { told, kept, displaced }`),

    /** Hash, the next one. */
    renew: growing(`
local hash, next = unpack(ARGV)
local state, t, s, at, due = find(hash)
if state == 'broken' then return { row(state, t.id, s.text) } end
if state ~= 'live' then return { state } end
if t.next and t.next ~= name(next) then return { 'superseded' } end
if not t.next then
  if in_use(next) then return { 'in use' } end
  present(name(hash), t, s, due)
  succeed(s, name(next))
  issue(next, t.id, s[ERA], name(hash))
  write(t.id, s)
end
return { row('live', t.id, s.text) }`),

    /** Hash, the next one. */
    rotate: growing(`
local hash, next = unpack(ARGV)
local state, t, s = find(hash)
if state == 'broken' or state == 'live' and not lines(s) then return { row('broken', t.id, s.text) } end
if state ~= 'live' then return { state } end
if in_use(next) then return { 'in use' } end
-- The tokens that have no end yet: the last, and the one before while the last was not presented. No login tells of theirs.
local last = token(s[LAST])
local before = last and last.before and token(last.before)
if before then
  before.valid = text(now)
  keep(last.before, before)
end
succeed(s, name(next), text(now))
s[ERA] = text(number(s[ERA]) + 1)
issue(next, t.id, s[ERA])
write(t.id, s)
return { row('live', t.id, s.text) }`),

    /** Id; idle timeout, touch interval and absolute timeout in milliseconds. */
    setExpiry: always(`
local id, idle, touch, absolute = unpack(ARGV)
local s = read(id)
local state = state_of(s)
if state == 'broken' or state == 'live' and not lines(s) then return { row('broken', id, s.text) } end
if state ~= 'live' then return { state } end
redis.call('ZCARD', BLOCK_OF .. s[BLOCK])
redis.call('ZCARD', DUE)
redis.call('ZCARD', DEADLINES .. s[PRINCIPAL])
set_times(s, idle, touch, absolute)
move(id, s)
ends(id, s[BLOCK], now + tonumber(absolute))
write(id, s)
return { row('live', id, s.text) }`),

    /** Id, version, data, its version. */
    update: growing(`
local id, version, data, dataVersion = unpack(ARGV)
local s = read(id)
local state = state_of(s)
local device = state == 'live' and lines(s)
if state == 'broken' or state == 'live' and not device then return { row('broken', id, s.text) } end
if state ~= 'live' then return { state } end
if s[VERSION] ~= version then return { 'conflict' } end
s[DATAVERSION], s[VERSION] = dataVersion, text(number(version) + 1)
write(id, s, device .. '\\n' .. data)
return { row('live', id, s.text) }`),

    /** Id. 1 if it was live; what cannot be read can be ended. */
    revoke: always(`
local s = read(ARGV[1])
local state = state_of(s)
if state == 'expired' then drop({ ARGV[1] }, s[PRINCIPAL]) end
if state ~= 'live' and state ~= 'broken' then return 0 end
redis.call('ZCARD', DUE)
finish({ ARGV[1] }, s[PRINCIPAL] or '')
return 1`),

    /**
     * Principal, id of a session to spare or '', and '' to begin with, then up to which place in the order, which the answer
     * before told. That place, the ids of those that were ended, and 1 if there may be more.
     */
    revokeAll: always(`
local principal, spared, upto = unpack(ARGV)
adopt_all(principal)
redis.call('ZCARD', DEADLINES .. principal)
redis.call('ZCARD', DUE)
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
    local ok, s = pcall(read, id)
    local state = ok and state_of(s) or 'broken'
    local list = (state == 'live' or state == 'broken') and ended or dropped
    list[#list + 1] = id
  end
end
finish(ended, principal)
drop(dropped, principal)
return { upto, ended, #ids == AT_ONCE and 1 or 0 }`),

    /** Principal. */
    epoch: always(`return redis.call('ZSCORE', EPOCHS, ARGV[1]) or '0'`),

    /** Principal. The ids of its sessions, the newest first, some of which may have expired. */
    ids: always(`
adopt_all(ARGV[1])
return redis.call('ZRANGE', ORDER .. ARGV[1], 0, -1, 'REV')`),
    /** Ids. For each its state and the session. */
    sessions: always(`
return each(ARGV, function(id)
  local kept = redis.call('GET', SESSION .. id)
  local at = kept and glance(kept)
  if at and now < at then return row('live', id, kept) end
  local s = read(id)
  local state = state_of(s)
  if state == 'live' or state == 'broken' then return row(state, id, s.text) end
  return state
end)`),
    visitors: always(RedisSessionBlocks.visitors),
    /** Ids. For each its state. */
    states: always(`return each(ARGV, function(id) return (state_of(read(id))) end)`),

    count: always(RedisSessionBlocks.count),
    prune: always(RedisSessionBlocks.prune),
    pruneLag: always(RedisSessionBlocks.pruneLag),

    /** The milliseconds of the server's clock. */
    ping: always(`
redis.call('ZCARD', DUE)
return text(now)`)
  }
}
