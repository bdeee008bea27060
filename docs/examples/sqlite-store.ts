// A whole store of your own: sessions in a SQLite file, for the processes of one machine. It passes the laws of every store.

// #region store
import { Clock, DateTime, Duration, Effect, Layer, Schema, Stream } from "effect"
import { SessionError, SessionId, SessionPruning, SessionRecord, SessionStore } from "holdfast"
import type { SessionToken } from "holdfast"
import * as SessionTimes from "holdfast/session/SessionTimes"
import { randomBytes } from "node:crypto"
import { DatabaseSync, type SQLInputValue } from "node:sqlite"

/** Times are milliseconds. `place` is the order of logins: the cap and the list need it where two have the same moment. */
const tables = `
  pragma journal_mode = wal;
  create table if not exists sessions (
    id text primary key, place integer not null, principal text, actor text, device text not null,
    data text not null, data_version integer not null, version integer not null,
    created_at integer not null, seen_at integer not null, expires_at integer not null,
    idle integer not null, touch integer not null, renew integer not null,
    ended_at integer, is_expired integer not null default 0
  ) strict;
  create index if not exists sessions_of on sessions (principal, place);
  create table if not exists tokens (
    hash text primary key, session text not null, issued_at integer not null, nonce text not null,
    predecessor text, successor text, valid_until integer
  ) strict;
  create index if not exists tokens_of on tokens (session);
  create table if not exists epochs (principal text primary key, count integer not null, at integer not null) strict;`

/** A row is input from outside, too. */
const Session = Schema.Struct({
  id: SessionId.SessionId,
  place: Schema.Int,
  principal: Schema.NullOr(Schema.String),
  actor: Schema.NullOr(Schema.String),
  device: Schema.fromJsonString(SessionRecord.Device),
  data: Schema.fromJsonString(Schema.Json),
  data_version: Schema.Int,
  version: Schema.Int,
  created_at: Schema.Int,
  seen_at: Schema.Int,
  expires_at: Schema.Int,
  idle: Schema.Int,
  touch: Schema.Int,
  renew: Schema.Int,
  ended_at: Schema.NullOr(Schema.Int),
  is_expired: Schema.Int
})
type Session = typeof Session.Type
const Token = Schema.Struct({
  hash: Schema.String,
  session: SessionId.SessionId,
  issued_at: Schema.Int,
  nonce: Schema.String,
  predecessor: Schema.NullOr(Schema.String),
  successor: Schema.NullOr(Schema.String),
  valid_until: Schema.NullOr(Schema.Int)
})
const Epoch = Schema.Struct({ count: Schema.Int })

const refuse = (reason: SessionError.SessionError["reason"]) => new SessionError.SessionError({ reason })
const unavailable = (cause: unknown) => refuse(new SessionError.SessionsUnavailable({ cause }))
const millis = Duration.toMillis

/** The enforced idle end is one touch interval later than the idle timeout: activity in between is not written. */
const isLive = (session: Session, now: number) =>
  session.ended_at === null && now < session.expires_at && now < session.seen_at + session.idle + session.touch

const recordOf = (session: Session, renewalNonce: string | null = null): SessionRecord.SessionRecord => ({
  id: session.id,
  principal: session.principal,
  actor: session.actor,
  data: session.data,
  dataVersion: session.data_version,
  version: session.version,
  device: session.device,
  createdAt: DateTime.makeUnsafe(session.created_at),
  lastSeenAt: DateTime.makeUnsafe(session.seen_at),
  idleExpiresAt: DateTime.makeUnsafe(Math.min(session.seen_at + session.idle, session.expires_at)),
  expiresAt: DateTime.makeUnsafe(session.expires_at),
  renewalNonce
})

/** A store over a file, until the scope closes. Nobody prunes it. */
export const make = Effect.fnUntraced(function* (path: string) {
  const database = yield* Effect.acquireRelease(
    // A writer in another process is waited for, and not for ever.
    Effect.sync(() => new DatabaseSync(path, { timeout: 3000 })),
    (open) => Effect.sync(() => open.close())
  )
  database.exec(tables)

  const run = (sql: string, ...values: ReadonlyArray<SQLInputValue>) =>
    Number(database.prepare(sql).run(...values).changes)
  const all = <A>(schema: Schema.Decoder<A>, sql: string, ...values: ReadonlyArray<SQLInputValue>) =>
    database
      .prepare(sql)
      .all(...values)
      .map((row) => Schema.decodeUnknownSync(schema)({ ...row }))

  /**
   * One operation is one transaction at one moment. What it throws undoes it: a refusal is a `SessionError`, everything else means
   * that the store cannot be reached. All processes are on this machine, so its clock is the store's clock.
   */
  const step = <A>(body: (now: number) => A): Effect.Effect<A, SessionError.SessionError> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.try({
        try: () => {
          database.exec("begin immediate")
          try {
            const result = body(now)
            database.exec("commit")
            return result
          } catch (cause) {
            database.exec("rollback")
            throw cause
          }
        },
        catch: (cause) => (cause instanceof SessionError.SessionError ? cause : unavailable(cause))
      })
    )

  const byId = (id: string) => all(Session, "select * from sessions where id = ?", id)[0]
  const tokenOf = (hash: string) => all(Token, "select * from tokens where hash = ?", hash)[0]
  const isTaken = (hash: string) => tokenOf(hash) !== undefined
  const liveOf = (principal: string, now: number) =>
    all(Session, "select * from sessions where principal = ? order by place", principal).filter((one) =>
      isLive(one, now)
    )

  /** The session if it is live. Else it says why not. */
  const find = (session: Session | undefined, now: number): Session => {
    if (session === undefined) throw refuse(new SessionError.SessionMissing())
    if (isLive(session, now)) return session
    const isRevoked = session.ended_at !== null && session.is_expired === 0
    throw refuse(isRevoked ? new SessionError.SessionRevoked() : new SessionError.SessionExpired())
  }

  /** The token and its session if both are live. Else it says why not. */
  const findToken = (hash: string, now: number) => {
    const token = tokenOf(hash)
    const session = find(token && byId(token.session), now)
    if (token === undefined || (token.valid_until ?? Infinity) <= now) {
      throw refuse(new SessionError.SessionSuperseded())
    }
    return { token, session }
  }

  /** An activity. The first one with a new token begins the grace of the one before. */
  const present = ({ session, token }: ReturnType<typeof findToken>, now: number): Session => {
    if (token.predecessor !== null) {
      run(
        "update tokens set valid_until = ? where hash = ?",
        now + millis(SessionTimes.renewalGrace),
        token.predecessor
      )
      run("update tokens set predecessor = null where hash = ?", token.hash)
    }
    if (session.seen_at + session.touch >= now) return session
    run("update sessions set seen_at = ? where id = ?", now, session.id)
    return { ...session, seen_at: now }
  }

  const issue = (hash: string, session: string, now: number, predecessor: string | null = null) => {
    if (isTaken(hash)) throw refuse(new SessionError.SessionTokenTaken())
    const nonce = randomBytes(32).toString("base64url")
    run("insert into tokens values (?, ?, ?, ?, ?, null, null)", hash, session, now, nonce, predecessor)
  }
  /** For good: a clock that is set back does not come before the first moment. */
  const killTokens = (session: string) => run("update tokens set valid_until = 0 where session = ?", session)

  /** Writes down that a session is over, and whether it was past its time. Tells whether it was live. */
  const finish = (session: Session, now: number): boolean => {
    if (session.ended_at !== null) return false
    const wasLive = isLive(session, now)
    const at = Math.min(now, session.expires_at)
    run("update sessions set ended_at = ?, is_expired = ? where id = ?", at, wasLive ? 0 : 1, session.id)
    return wasLive
  }

  /** The oldest end, so that there is room for one more. */
  const makeRoom = (principal: string, { maxPerPrincipal }: SessionStore.Limits, now: number, but?: string) => {
    // What is past its time is not counted, so it is over for good: the clock may be set back.
    const theirs = all(Session, "select * from sessions where principal = ? and ended_at is null", principal)
    for (const session of theirs) if (!isLive(session, now)) finish(session, now)
    const others = liveOf(principal, now).filter(({ id }) => id !== but)
    const displaced = others.slice(0, Math.max(others.length - Math.max(maxPerPrincipal - 1, 0), 0))
    for (const session of displaced) finish(session, now)
    return displaced.map(({ id }) => id)
  }

  const epochOf = (principal: string) =>
    all(Epoch, "select count from epochs where principal = ?", principal)[0]?.count ?? 0
  /** Someone who was revoked altogether while the login was under way does not get in. */
  const guard = (principal: string, { epoch }: SessionStore.Limits) => {
    if (epoch !== undefined && epochOf(principal) > epoch) throw refuse(new SessionError.SessionRevoked())
  }

  const expiryOf = (limits: Pick<SessionStore.Limits, "absoluteTimeout" | "idleTimeout">, now: number) => [
    now,
    now + millis(limits.absoluteTimeout),
    millis(limits.idleTimeout),
    millis(SessionTimes.touchInterval(limits.idleTimeout))
  ]
  const nextPlace = "(select coalesce(max(place), 0) + 1 from sessions)"

  const create = (session: SessionStore.NewSession) =>
    step((now): SessionStore.Login => {
      const { actor = null, data, dataVersion, device, instead, principal, token } = session
      if (isTaken(token)) throw refuse(new SessionError.SessionTokenTaken())
      if (principal !== null) guard(principal, session)
      const displaced = principal === null ? [] : makeRoom(principal, session, now)
      const id = SessionId.make()
      run(
        `insert into sessions (id, place, principal, actor, device, data, data_version, version, created_at, seen_at,
           expires_at, idle, touch, renew) values (?, ${nextPlace}, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)`,
        id,
        principal,
        actor,
        JSON.stringify(device),
        JSON.stringify(data),
        dataVersion,
        now,
        ...expiryOf(session, now),
        millis(session.renewEvery)
      )
      issue(token, id, now)
      // A token that was presented in vain is from now on one that the new session replaced.
      const vain = instead === undefined ? undefined : tokenOf(instead)
      const old = vain && byId(vain.session)
      if (vain !== undefined && (old === undefined || !isLive(old, now))) {
        run("update tokens set session = ?, predecessor = null, valid_until = 0 where hash = ?", id, vain.hash)
      }
      return { record: recordOf(find(byId(id), now)), displaced }
    })

  const load = (hash: SessionToken.TokenHash) =>
    step((now) => {
      const found = findToken(hash, now)
      const isDue = found.token.issued_at + found.session.renew <= now
      return recordOf(present(found, now), isDue ? found.token.nonce : null)
    })

  const update = ({ data, dataVersion, id, version }: SessionStore.Update) =>
    step((now) => {
      if (find(byId(id), now).version !== version) throw refuse(new SessionError.SessionConflict())
      const sql = "update sessions set data = ?, data_version = ?, version = version + 1 where id = ?"
      run(sql, JSON.stringify(data), dataVersion, id)
      return recordOf(find(byId(id), now))
    })

  const renew = ({ next, token: hash }: SessionStore.Renewal) =>
    step((now) => {
      const found = findToken(hash, now)
      if ((found.token.successor ?? next) !== next) throw refuse(new SessionError.SessionSuperseded())
      if (found.token.successor !== null) return recordOf(found.session)
      issue(next, found.session.id, now, hash)
      run("update tokens set successor = ? where hash = ?", next, hash)
      return recordOf(present(found, now))
    })

  const authenticate = (login: SessionStore.Authentication) =>
    step((now): SessionStore.Login => {
      const { data, device, next, principal, token } = login
      const { id } = findToken(token, now).session
      if (isTaken(next)) throw refuse(new SessionError.SessionTokenTaken())
      guard(principal, login)
      const displaced = makeRoom(principal, login, now, id)
      killTokens(id)
      run(
        `update sessions set place = ${nextPlace}, principal = ?, actor = null, device = ?, version = version + 1,
           created_at = ?, seen_at = ?, expires_at = ?, idle = ?, touch = ?, renew = ? where id = ?`,
        principal,
        JSON.stringify(device),
        now,
        ...expiryOf(login, now),
        millis(login.renewEvery),
        id
      )
      if (data !== undefined) {
        run("update sessions set data = ?, data_version = ? where id = ?", JSON.stringify(data.value), data.version, id)
      }
      issue(next, id, now)
      return { record: recordOf(find(byId(id), now)), displaced }
    })

  const rotate = ({ next, token }: SessionStore.Rotation) =>
    step((now) => {
      const { session } = findToken(token, now)
      if (isTaken(next)) throw refuse(new SessionError.SessionTokenTaken())
      killTokens(session.id)
      issue(next, session.id, now)
      return recordOf(session)
    })

  const setExpiry = ({ id, ...times }: SessionStore.Expiry) =>
    step((now) => {
      find(byId(id), now)
      const sql = "update sessions set seen_at = ?, expires_at = ?, idle = ?, touch = ? where id = ?"
      run(sql, ...expiryOf(times, now), id)
      return recordOf(find(byId(id), now))
    })

  const revoke = (id: SessionId.SessionId) =>
    step((now) => {
      const session = byId(id)
      return session !== undefined && finish(session, now)
    })

  const revokeAll = (principal: string, options?: { readonly except?: SessionId.SessionId | undefined }) =>
    step((now) => {
      const theirs = all(Session, "select * from sessions where principal = ? order by place", principal)
      const ended = theirs.filter((session) => session.id !== options?.except && finish(session, now))
      run(
        "insert into epochs values (?, 1, ?) on conflict do update set count = count + 1, at = excluded.at",
        principal,
        now
      )
      return ended.map(({ id }) => id)
    })

  const visitors = ({ after = "", limit }: SessionStore.VisitorsAfter) =>
    step((now): SessionStore.Visitors => {
      if (after !== "" && !Schema.is(SessionId.SessionId)(after)) {
        throw refuse(new SessionError.SessionInvalid({ problem: "`after` is not the `next` of a page" }))
      }
      const seen = all(Session, "select * from sessions where id > ? order by id limit ?", after, limit)
      const sessions = seen.filter((one) => one.principal === null && isLive(one, now)).map((one) => recordOf(one))
      return { sessions, next: seen.length < limit ? undefined : seen.at(-1)?.id }
    })

  const endedOf = (ids: ReadonlyArray<SessionId.SessionId>) =>
    step((now) =>
      ids.filter((id) => {
        const session = byId(id)
        return session === undefined || !isLive(session, now)
      })
    )

  /** Where nobody ended a session, its end is the absolute one. */
  const end = "coalesce(ended_at, expires_at)"
  const prune = (limit: number) =>
    step((now): SessionStore.Pruned => {
      const began = performance.now()
      const before = now - millis(SessionTimes.tombstoneAge)
      const ids = database.prepare(`select id from sessions where ${end} < ? limit ?`).all(before, limit)
      for (const { id } of ids) {
        run("delete from tokens where session = ?", String(id))
        run("delete from sessions where id = ?", String(id))
      }
      run("delete from epochs where at < ?", before)
      return { sessions: ids.length, took: Duration.millis(performance.now() - began) }
    })

  const Oldest = Schema.Struct({ at: Schema.NullOr(Schema.Int) })
  const pruneLag = step((now) => {
    const at = all(Oldest, `select min(${end}) as at from sessions`)[0]?.at ?? now
    return Duration.millis(Math.max(now - at - millis(SessionTimes.tombstoneAge), 0))
  })

  /** Refuses a name that some store could not keep. */
  const checked = <A>(name: string | null | undefined, work: Effect.Effect<A, SessionError.SessionError>) =>
    name === null || name === undefined ? work : Effect.andThen(SessionRecord.principalOf(name), work)

  return SessionStore.SessionStore.of({
    capabilities: { sharedBy: "process", afterCrash: "kept", afterFailover: "lost", eviction: "never" },
    create: (session) => checked(session.principal, checked(session.actor, create(session))),
    load,
    touch: (hash) => Effect.asVoid(load(hash)),
    update,
    renew,
    authenticate: (login) => checked(login.principal, authenticate(login)),
    rotate,
    setExpiry,
    revoke,
    revokeAll: (principal, options) => checked(principal, revokeAll(principal, options)),
    epoch: (principal) =>
      checked(
        principal,
        step(() => epochOf(principal))
      ),
    list: (principal) =>
      checked(
        principal,
        step((now) =>
          liveOf(principal, now)
            .toReversed()
            .map((one) => recordOf(one))
        )
      ),
    visitors,
    endedOf,
    // SQLite tells nobody. `Sessions` asks `endedOf` every ten seconds.
    ended: Stream.never,
    prune,
    pruneLag,
    ping: step((now) => DateTime.makeUnsafe(now))
  })
})

/** Sessions in a file, with their pruning. The file is closed with the layer. */
export const layer = (path: string, options: { readonly pruning?: SessionPruning.Options | false } = {}) =>
  SessionPruning.withStore(Layer.effect(SessionStore.SessionStore, make(path)), options.pruning)
// #endregion
