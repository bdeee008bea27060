/**
 * A session store with one fault, for each law that a store can break. The store beneath is the one in memory, which has
 * none.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { SessionError, SessionExpired, SessionMissing, SessionsUnavailable } from "../../src/session/SessionError.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import type { SessionRecord } from "../../src/session/SessionRecord.ts"
import type { SessionStore } from "../../src/session/SessionStore.ts"
import type { TokenHash } from "../../src/session/SessionToken.ts"

type Store = SessionStore["Service"]

const fails = (tag: SessionError["reason"]["_tag"]) => (error: SessionError) => error.reason._tag === tag
const orElse =
  <A>(tag: SessionError["reason"]["_tag"], other: () => Effect.Effect<A, SessionError>) =>
  (effect: Effect.Effect<A, SessionError>) =>
    Effect.catchIf(effect, fails(tag), other)

/** Old tokens go on leading to where the new one leads. */
const aliases = (store: Store) => {
  const alias = new Map<TokenHash, TokenHash>()
  const now = (token: TokenHash): TokenHash => {
    const next = alias.get(token)
    return next === undefined ? token : now(next)
  }
  return { alias, now, load: (token: TokenHash) => store.load(now(token)) }
}

/** The last record of each session that was answered. */
const remembering = (store: Store) => {
  const records = new Map<SessionId.SessionId, SessionRecord>()
  const load = (token: TokenHash) =>
    Effect.tap(store.load(token), (record) => Effect.sync(() => records.set(record.id, record)))
  const create: Store["create"] = (session) =>
    Effect.tap(store.create(session), ({ record }) => Effect.sync(() => records.set(record.id, record)))
  return { records, load, create }
}

/** The name of a law, and a fault that breaks it. */
export const faults: ReadonlyArray<readonly [law: string, fault: string, broken: (store: Store) => Partial<Store>]> = [
  [
    "S1 what one instance wrote another reads right after",
    "the version of data loses its sign",
    (store) => ({
      load: (token) =>
        Effect.map(store.load(token), (record) => ({ ...record, dataVersion: Math.abs(record.dataVersion) }))
    })
  ],
  [
    "S1 data comes back as it was written, to the character",
    "NUL is taken out of texts",
    (store) => ({
      create: (session) =>
        store.create({ ...session, data: JSON.parse(JSON.stringify(session.data).replaceAll("\\u0000", "")) })
    })
  ],
  [
    "S2 of parallel updates of one version exactly one takes effect, and the others are told",
    "an update overwrites, whatever the version",
    (store) => {
      const update: Store["update"] = (change) =>
        orElse<SessionRecord>("SessionConflict", () => update({ ...change, version: change.version + 1 }))(
          store.update(change)
        )
      return { update }
    }
  ],
  [
    "a list holds the live sessions, the newest first",
    "the oldest is first",
    (store) => ({ list: (principal) => Effect.map(store.list(principal), (all) => all.toReversed()) })
  ],
  [
    "visitors' sessions are told a page at a time, and nobody else's",
    "the first of each page is lost",
    (store) => ({
      visitors: (page) =>
        Effect.map(store.visitors(page), ({ next, sessions }) => ({ next, sessions: sessions.slice(1) }))
    })
  ],
  [
    "a session that an operator opened on behalf of somebody says so until they log in",
    "the operator is forgotten",
    (store) => ({ create: (session) => store.create({ ...session, actor: undefined }) })
  ],
  [
    "a principal that no store could keep is refused",
    "a principal is cut to what fits",
    (store) => ({
      create: (session) =>
        orElse<Effect.Success<ReturnType<Store["create"]>>>("SessionInvalid", () =>
          store.create({ ...session, principal: "cut" })
        )(store.create(session))
    })
  ],
  [
    "the store answers with the time of its clock",
    "`ping` tells another clock's time",
    () => ({ ping: Effect.succeed(DateTime.makeUnsafe(0)) })
  ],
  [
    "S3 nothing written after the end brings a session back",
    "a touch of a session that is over succeeds",
    (store) => ({ touch: (token) => Effect.ignore(store.touch(token)) })
  ],
  [
    "S3 S7 what was past its time when it was ended is over for good, also when the clock is set back",
    "what is expired is not written down by `revoke`",
    (store) => ({
      revoke: (id) =>
        Effect.flatMap(store.endedOf([id]), (ended) => (ended.length > 0 ? Effect.succeed(false) : store.revoke(id)))
    })
  ],
  [
    "S3 an end among updates and loads is final",
    "a second `revoke` says that it ended the session, too",
    (store) => ({ revoke: (id) => Effect.as(store.revoke(id), true) })
  ],
  [
    "the end of a session is remembered for 24 hours",
    "nothing is ever pruned",
    () => ({ prune: () => Effect.succeed({ sessions: 0, took: Duration.zero }) })
  ],
  [
    "S9 every instance is told of sessions that were ended, and of none that was not",
    "nobody is told of ends",
    () => ({ ended: Stream.never })
  ],
  [
    "S12 pruning is bounded, safe from many instances, and spares what lives",
    "`prune` takes all at once",
    (store) => ({ prune: () => store.prune(1000) })
  ],
  [
    "S4 a session without activity ends after its idle timeout and one touch interval",
    "`endedOf` does not see what expired",
    () => ({ endedOf: () => Effect.succeed([]) })
  ],
  [
    "S4 an active session ends at its absolute end",
    "the absolute timeout counts double",
    (store) => ({
      create: (session) => store.create({ ...session, absoluteTimeout: Duration.times(session.absoluteTimeout, 2) })
    })
  ],
  [
    "S5 an active session never expires early, also when its activity was not written",
    "the idle end is enforced without the touch interval",
    (store) => {
      const ends = new Map<TokenHash, number>()
      const seen = (token: TokenHash, { idleExpiresAt }: SessionRecord) =>
        ends.set(token, DateTime.toEpochMillis(idleExpiresAt))
      return {
        create: (session) =>
          Effect.tap(store.create(session), ({ record }) => Effect.sync(() => seen(session.token, record))),
        load: (token) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            now > (ends.get(token) ?? Infinity)
              ? Effect.fail(new SessionError({ reason: new SessionExpired() }))
              : Effect.tap(store.load(token), (record) => Effect.sync(() => seen(token, record)))
          )
      }
    }
  ],
  [
    "S5 activity is written at most once per touch interval",
    "each load is written",
    (store) => ({
      load: (token) =>
        Effect.zipWith(store.load(token), Clock.currentTimeMillis, (record, now) => ({
          ...record,
          lastSeenAt: DateTime.makeUnsafe(now)
        }))
    })
  ],
  [
    "S5 a touch is an activity as a load is",
    "a touch is no activity",
    (store) => {
      const known = new Set<TokenHash>()
      return {
        create: (session) => Effect.tap(store.create(session), () => Effect.sync(() => known.add(session.token))),
        touch: (token) =>
          known.has(token) ? Effect.void : Effect.fail(new SessionError({ reason: new SessionMissing() }))
      }
    }
  ],
  [
    "S5 a session lives by the times that it was given last",
    "other times leave the idle timeout as it was",
    (store) => ({ setExpiry: (expiry) => store.setExpiry({ ...expiry, idleTimeout: Duration.minutes(30) }) })
  ],
  [
    "S3 other times bring no session back, and S8 count as they are",
    "other times for a session that is over succeed",
    (store) => {
      const { create, load, records } = remembering(store)
      return {
        create,
        load,
        setExpiry: (expiry) =>
          Effect.catchIf(
            store.setExpiry(expiry),
            () => true,
            (error) => {
              const record = records.get(expiry.id)
              return record === undefined ? Effect.fail(error) : Effect.succeed(record)
            }
          )
      }
    }
  ],
  [
    "S5 a session that is loaded all the time never expires, whatever an instance remembers of it",
    "what is remembered is answered, and its activity is never written",
    (store) => {
      const remembered = new Map<TokenHash, { readonly record: SessionRecord; readonly since: number }>()
      return {
        load: (token) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const known = remembered.get(token)
            if (known !== undefined && now - known.since < 20 * 60_000) return Effect.succeed(known.record)
            return Effect.tap(store.load(token), (record) =>
              Effect.sync(() => remembered.set(token, { record, since: now }))
            )
          })
      }
    }
  ],
  [
    "a token that is in use, or was, is not given to another session",
    "a key that is there already looks like an outage",
    (store) => ({
      create: (session) =>
        Effect.catchIf(store.create(session), fails("SessionTokenTaken"), (cause) =>
          Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause }) }))
        )
    })
  ],
  [
    "S6 a token is to be renewed from its age on, by any instance that is shown it",
    "each load makes another nonce",
    (store) => ({
      load: (token) =>
        Effect.map(store.load(token), (record) =>
          record.renewalNonce === null ? record : { ...record, renewalNonce: randomBytes(32).toString("base64url") }
        )
    })
  ],
  [
    "S6 parallel renewals converge on one token",
    "a token may have a second successor",
    (store) => ({
      renew: (renewal) => orElse("SessionSuperseded", () => store.load(renewal.token))(store.renew(renewal))
    })
  ],
  [
    "S6 a renewed token lives until 30 seconds after the new one was first presented",
    "the grace begins when the token is renewed",
    (store) => ({ renew: (renewal) => Effect.tap(store.renew(renewal), () => store.load(renewal.next)) })
  ],
  [
    "S6 renewals among logins leave no token alive but the login's",
    "a login does not see the tokens that were renewed meanwhile",
    (store) => {
      const { alias, load, now } = aliases(store)
      const renewed: Array<TokenHash> = []
      return {
        load,
        renew: ({ next, token }) =>
          Effect.tap(store.renew({ next, token: now(token) }), () => Effect.sync(() => renewed.push(next))),
        authenticate: (login) =>
          Effect.repeat(Effect.yieldNow, { times: 4 }).pipe(
            Effect.andThen(store.authenticate(login)),
            Effect.tap(() => Effect.sync(() => renewed.forEach((token) => alias.set(token, login.next))))
          )
      }
    }
  ],
  [
    "S6 a rotation puts a new token in the place of all others, at once, and changes nothing else",
    "a rotation leaves the old token alive",
    (store) => {
      const { alias, load } = aliases(store)
      return {
        load,
        rotate: (rotation) =>
          Effect.tap(store.rotate(rotation), () => Effect.sync(() => alias.set(rotation.token, rotation.next)))
      }
    }
  ],
  [
    "S6 of parallel rotations one succeeds, and no token but its own lives",
    "a rotation that comes too late follows the first one",
    (store) => {
      const { alias, now } = aliases(store)
      return {
        rotate: ({ next, token }) =>
          Effect.suspend(() => {
            const last = now(token)
            return Effect.tap(store.rotate({ next, token: last }), () => Effect.sync(() => alias.set(last, next)))
          })
      }
    }
  ],
  [
    "a token presented in vain is one of the session that took its place",
    "`instead` is not looked at",
    (store) => ({ create: (session) => store.create({ ...session, instead: undefined }) })
  ],
  [
    "S6 a login puts a new token in the place of all others, at once",
    "a login leaves the old token alive",
    (store) => {
      const { alias, load } = aliases(store)
      return {
        load,
        authenticate: (login) =>
          Effect.tap(store.authenticate(login), () => Effect.sync(() => alias.set(login.token, login.next)))
      }
    }
  ],
  [
    "S6 of parallel logins in one session one succeeds, and no token but its own lives",
    "a login that comes too late takes the session over again",
    (store) => {
      const { alias, now } = aliases(store)
      return {
        authenticate: (login) =>
          Effect.suspend(() => {
            const token = now(login.token)
            return Effect.tap(store.authenticate({ ...login, token }), () =>
              Effect.sync(() => alias.set(token, login.next))
            )
          })
      }
    }
  ],
  [
    "S6 two principals that take each other's sessions over do not wait for each other for ever",
    "principals are locked in the order in which they come",
    (store) => {
      const locks = new Map<string, Semaphore.Semaphore>()
      const lock = (principal: string) => {
        const found = locks.get(principal) ?? Semaphore.makeUnsafe(1)
        locks.set(principal, found)
        return found
      }
      return {
        authenticate: (login) =>
          Effect.flatMap(store.load(login.token), ({ principal }) => {
            const work = Effect.andThen(Effect.yieldNow, store.authenticate(login))
            if (principal === null || principal === login.principal) return work
            const inner = Effect.andThen(Effect.yieldNow, lock(login.principal).withPermit(work))
            return lock(principal).withPermit(inner)
          })
      }
    }
  ],
  [
    "S6 an update begun before a login takes no effect",
    "a login leaves the version as it was",
    (store) => {
      const logins = new Map<SessionId.SessionId, number>()
      const shown = (record: SessionRecord) => ({ ...record, version: record.version - (logins.get(record.id) ?? 0) })
      return {
        load: (token) => Effect.map(store.load(token), shown),
        update: (change) =>
          Effect.map(store.update({ ...change, version: change.version + (logins.get(change.id) ?? 0) }), shown),
        authenticate: (login) =>
          Effect.map(store.authenticate(login), ({ displaced, record }) => {
            logins.set(record.id, (logins.get(record.id) ?? 0) + 1)
            return { displaced, record: shown(record) }
          })
      }
    }
  ],
  [
    "S7 a login that began before its principal was revoked is refused",
    "the epoch is not looked at",
    (store) => ({ create: (session) => store.create({ ...session, epoch: undefined }) })
  ],
  [
    "S7 revoking a principal ends all its sessions and nobody else's",
    "the session that was to be spared is ended, too",
    (store) => ({ revokeAll: (principal) => store.revokeAll(principal) })
  ],
  [
    "S7 what is live after revoking among creates was created after it",
    "the first one that was revoked is not told",
    (store) => ({
      revokeAll: (principal, options) => Effect.map(store.revokeAll(principal, options), (ended) => ended.slice(1))
    })
  ],
  [
    "S8 the cap holds under parallel logins, and the oldest make room",
    "a new session makes no room",
    (store) => ({ create: (session) => store.create({ ...session, maxPerPrincipal: 1000 }) })
  ],
  [
    "S8 the cap holds under parallel logins in sessions that exist",
    "a login in a session makes no room",
    (store) => ({ authenticate: (login) => store.authenticate({ ...login, maxPerPrincipal: 1000 }) })
  ],
  [
    "S8 sessions that are over take no place under the cap, and visitors have none",
    "visitors share one cap",
    (store) => {
      const visitors: Array<SessionId.SessionId> = []
      return {
        create: (session) =>
          Effect.tap(store.create(session), ({ record }) => {
            if (session.principal !== null) return Effect.void
            visitors.push(record.id)
            return Effect.forEach(visitors.slice(0, -session.maxPerPrincipal), store.revoke)
          })
      }
    }
  ],
  [
    "S8 a session that a login did not count any more is over for good, also when the clock is set back",
    "what expired is looked up, and never written down",
    (store) => {
      const { create, load, records } = remembering(store)
      const ids = new Map<TokenHash, SessionId.SessionId>()
      return {
        create: (session) =>
          Effect.tap(create(session), ({ record }) => Effect.sync(() => ids.set(session.token, record.id))),
        load: (token) =>
          orElse<SessionRecord>("SessionExpired", () =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              const record = records.get(ids.get(token) ?? SessionId.make())
              return record !== undefined && now < DateTime.toEpochMillis(record.idleExpiresAt)
                ? Effect.succeed(record)
                : Effect.fail(new SessionError({ reason: new SessionExpired() }))
            })
          )(load(token))
      }
    }
  ],
  [
    "S6 a token that was replaced at once is dead for good, also when the clock is set back",
    "a token that was replaced is good until the moment at which it was",
    (store) => {
      const replaced = new Map<TokenHash, { readonly next: TokenHash; readonly at: number }>()
      return {
        rotate: (rotation) =>
          Effect.zipWith(store.rotate(rotation), Clock.currentTimeMillis, (record, at) => {
            replaced.set(rotation.token, { next: rotation.next, at })
            return record
          }),
        load: (token) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const known = replaced.get(token)
            return store.load(known !== undefined && now < known.at ? known.next : token)
          })
      }
    }
  ]
]
