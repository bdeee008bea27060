/**
 * How a handle on a session works; what it offers is `SessionHandle.Session`.
 *
 * A handle lives as long as the scope it is made in. It asks the store for nothing until somebody asks it for something,
 * then loads the session once and holds it here until its scope closes.
 *
 * ```
 * Unloaded ──┬──► Live ────► Ended    logged out, or found ended; only a login leads on from here
 *            └──► Visitor ──► Live    the first change, or a login, makes a session
 * ```
 *
 * **Details**
 *
 * What changes the token is not interrupted halfway, because the client has to learn about it; the store's time limit
 * bounds it. There is one such change at a time. The functions given to `modify` run beside each other, and the store's
 * version tells which was first.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import * as SessionAudit from "../SessionAudit.ts"
import type { Stored } from "../SessionData.ts"
import * as SessionChanges from "./SessionChanges.ts"
import * as SessionEnding from "./SessionEnding.ts"
import type { SessionError } from "../SessionError.ts"
import { deviceOf, type Login, type Session, type TokenChange } from "./SessionHandle.ts"
import type { SessionId } from "../SessionId.ts"
import * as SessionLayers from "./SessionLayers.ts"
import * as SessionLogin from "./SessionLogin.ts"
import { authenticatedAt, type SessionRecord } from "../SessionRecord.ts"
import { Sessions } from "../Sessions.ts"
import {
  conflict,
  isMissing,
  isSuperseded,
  isUnreadable,
  type Live,
  missing,
  revoked,
  type Snapshot,
  type State,
  successorOf,
  tokenOf,
  tooLate
} from "./SessionState.ts"
import * as SessionToken from "../SessionToken.ts"

/** What came with the request, and how to answer. */
export interface Options {
  /** None for somebody without a session. */
  readonly token: Option.Option<SessionToken.SessionToken>
  /** Told of every change of the token that the client has to learn about, in order. Must not fail. */
  readonly onToken?: ((change: TokenChange) => Effect.Effect<void>) | undefined
  /** Whether the client can still learn about a change; asked before one is made. Default: always. */
  readonly canTell?: (() => boolean) | undefined
  /**
   * Told, when the session was loaded, that its token is due; `renew` is the handle's, to be run at once or later. Must not
   * fail. Default: a token is only replaced when somebody runs `renew`.
   */
  readonly onDue?: ((renew: Session<unknown>["renew"]) => Effect.Effect<void>) | undefined
  /**
   * Told, in the handle's scope, what it holds here when it has a live session: `hold` ends with the session, before it is
   * over. Must not fail.
   */
  readonly onHeld?: ((hold: Lifetime.Lifetime) => Effect.Effect<void, never, Scope.Scope>) | undefined
  /** Told before the handle ends its session itself. Must not fail. */
  readonly onEnding?: Effect.Effect<unknown> | undefined
  /** Something was presented that is no token: the client is told to forget it. */
  readonly unreadable?: boolean | undefined
}

const nothing = () => Effect.void
const always = () => true

/** Makes a handle on the session of a token, or of nobody yet, for the scope in the context. Asks the store for nothing. */
export const make = <Data>(
  { codec, limits }: SessionLogin.Config<Data>,
  context: Context.Context<Sessions | Scope.Scope>,
  options: Options
): Session<Data> => {
  const sessions = Context.get(context, Sessions)
  const scope = Context.get(context, Scope.Scope)
  const audit = Context.get(context, SessionAudit.SessionAudit)
  const ending = SessionEnding.make(sessions, audit)
  const turns = Semaphore.makeUnsafe(1)
  let state: State = { _tag: "Unloaded", token: options.token }

  const { canTell = always, onDue = nothing, onHeld = nothing, onToken: tell = nothing } = options
  const forget = tell(Option.none())
  /** Of a token that leads nowhere: another answer may have brought a new one in its place. */
  const instead = Option.getOrUndefined(Option.map(options.token, SessionToken.hash))
  const tellLive = (live: Live) => tell(Option.some(tokenOf(live)))

  // A superseded token is left to the client: another response has just brought it the next one.
  const refused = (refusal: SessionAudit.Refusal) =>
    Effect.andThen(
      audit.note({ _tag: "Refused", reason: refusal }),
      refusal === "SessionSuperseded" ? Effect.void : forget
    )

  /** The store says that the session is over: it stays so for this handle. */
  const found = (error: SessionError): Effect.Effect<never, SessionError> => {
    const refusal = SessionLogin.refusalOf(error)
    if (refusal === undefined) return Effect.fail(error)
    state = { _tag: "Ended", error }
    return Effect.andThen(refused(refusal), Effect.fail(error))
  }

  /** As `found`, unless the handle has another session, or another token of it, by now: it may be used by several fibers. */
  const orFound = (of: Live) =>
    Effect.catch((error: SessionError) =>
      state._tag === "Live" && state.token !== of.token ? Effect.fail(error) : found(error)
    )

  // A successor that there is not was none: a login took the token's place.
  const withToken = <A>(live: Live, use: (token: SessionToken.SessionToken) => Effect.Effect<A, SessionError>) =>
    Effect.catchIf(use(live.token), isSuperseded, (error) => {
      const successor = successorOf(live)
      if (successor === undefined) return Effect.fail(error)
      return Effect.catchIf(use(successor), isMissing, () => Effect.fail(error))
    })

  /** Replaces the token if it is due, and tells whether it did. */
  const renewed = (live: Live): Effect.Effect<boolean, SessionError> => {
    const nonce = live.record.renewalNonce
    if (nonce === null || live.successor !== undefined || !canTell()) return Effect.succeed(false)
    const successor = SessionToken.next(live.token, nonce)
    return Effect.flatMap(sessions.renew(live.token, successor), (record) => {
      const next: Live = { ...live, record: { ...record, renewalNonce: null }, successor }
      state = next
      return Effect.andThen(
        audit.note({ _tag: "Renewed", ...SessionAudit.subject(record) }),
        Effect.as(tellLive(next), true)
      )
    })
  }

  const load = (token: SessionToken.SessionToken) =>
    Effect.matchEffect(Scope.provide(sessions.open(token), scope), {
      onSuccess: ({ hold, lifetime, record }) => {
        state = { _tag: "Live", token, successor: undefined, lifetime, record }
        return Effect.as(Scope.provide(onHeld(hold), scope), record.renewalNonce !== null)
      },
      onFailure: (error) => {
        const refusal = SessionLogin.refusalOf(error)
        if (refusal === undefined) return Effect.andThen(SessionLogin.warn(error), Effect.fail(error))
        state = { _tag: "Visitor", error }
        return Effect.as(refused(refusal), false)
      }
    })

  /** Changes the token, if the client can learn about it. */
  const changing = <A>(change: () => Effect.Effect<A, SessionError>) =>
    turns.withPermit(Effect.uninterruptible(Effect.suspend(() => (canTell() ? change() : Effect.fail(tooLate)))))
  const settled = () => (state._tag === "Unloaded" ? undefined : state)
  const settle: Effect.Effect<Exclude<State, { _tag: "Unloaded" }>, SessionError> = Effect.suspend(() => {
    const known = settled()
    if (known !== undefined) return Effect.succeed(known)
    const loaded = Effect.suspend(() => {
      if (state._tag !== "Unloaded") return Effect.succeed(false)
      if (Option.isSome(state.token)) return load(state.token.value)
      state = { _tag: "Visitor", error: missing }
      return Effect.as(options.unreadable === true ? refused("SessionMissing") : Effect.void, false)
    })
    return Effect.andThen(
      Effect.flatMap(turns.withPermit(loaded), (isDue) => (isDue ? onDue(renew) : Effect.void)),
      settle
    )
  })
  const required = Effect.flatMap(settle, (known) =>
    known._tag === "Live" ? Effect.succeed(known) : Effect.fail(known.error)
  )

  let told: SessionRecord | undefined
  const tellProblem = (record: SessionRecord, problem: string | undefined) => {
    if (problem === undefined || told === record) return Effect.void
    told = record
    return audit.note({ _tag: "Undecodable", session: record.id, problem })
  }

  const tellUnread = (record: SessionRecord) => (error: SessionError) =>
    tellProblem(record, isUnreadable(error) ? error.message : undefined)

  const snapshot = Effect.flatMap(settle, (known): Effect.Effect<Snapshot<Data>, SessionError> => {
    if (known._tag === "Ended") return Effect.fail(known.error)
    if (known._tag === "Visitor")
      return Effect.map(codec.initial, (read) => ({ ...read, data: read.value, version: 0, session: undefined }))
    const { record } = known
    return Effect.flatMap(Effect.tapError(codec.read(record), tellUnread(record)), (read) =>
      Effect.as(tellProblem(record, read.problem), {
        ...read,
        data: read.value,
        version: record.version,
        session: record.id
      })
    )
  })

  /** A session that was just made, or has a new token, is this handle's from now on. */
  const adopt = (record: SessionRecord, token: SessionToken.SessionToken) => {
    if (!canTell()) return abandon(record)
    return Effect.flatMap(
      Scope.provide(sessions.hold(record), scope).pipe(Effect.catch(found)),
      ({ hold, lifetime }) => {
        const live: Live = { _tag: "Live", token, successor: undefined, lifetime, record }
        state = live
        return Effect.as(Effect.andThen(Scope.provide(onHeld(hold), scope), tellLive(live)), record)
      }
    )
  }

  /** The response began while the store was asked. A session whose token nobody learns must not go on. */
  const abandon = (record: SessionRecord) =>
    Effect.flatMap(ending.begin(record, "untold"), () => {
      if (state._tag === "Live") state = { _tag: "Ended", error: revoked }
      return Effect.fail(tooLate)
    })

  /** The first change of a visitor's data makes a session, unless somebody else made one meanwhile. */
  const begin = (stored: Stored) =>
    changing(() => {
      if (state._tag !== "Visitor") return Effect.fail(conflict)
      const created = Effect.tap(
        sessions.create({ ...stored, ...limits(), principal: null, device: {}, instead }),
        ({ record }) => audit.note({ _tag: "Created", ...SessionAudit.subject(record), device: record.device })
      )
      return Effect.flatMap(created, ({ record, token }) => adopt(record, token))
    })

  /** A newer record of the session; what is known about its token stays. */
  const seen = (record: SessionRecord) => {
    if (state._tag !== "Live" || state.record.id !== record.id || state.record.version >= record.version) return
    state = { ...state, record: { ...record, renewalNonce: state.record.renewalNonce } }
  }
  const refresh = (live: Live) => Effect.map(orFound(live)(withToken(live, sessions.load)), seen)

  /** Writes data if the session is at this version still; nothing if it would be what it was. */
  const write = Effect.fnUntraced(function* (value: Data, read: Snapshot<Data>, version: number) {
    // The session goes on under a newer token: a second one beside it would take its place in the browser.
    if (state._tag === "Visitor" && isSuperseded(state.error)) return yield* state.error
    const { stored, text } = yield* codec.write(value, read.quarantined)
    if (text === read.text && version === read.version) return { data: value, version }
    const known = yield* settle
    if (known._tag === "Ended") return yield* known.error
    if (known._tag === "Visitor") {
      if (version !== 0) return yield* conflict
      return { data: value, version: (yield* begin(stored)).version }
    }
    if (known.record.id !== read.session) return yield* conflict
    const updated = Effect.map(sessions.update({ id: known.record.id, version, ...stored }), (record) => {
      seen(record)
      return { data: value, version: record.version }
    })
    return yield* orFound(known)(Effect.uninterruptible(updated))
  })

  const modify = SessionChanges.modify({
    snapshot,
    write,
    refresh: Effect.suspend(() => (state._tag === "Live" ? refresh(state) : Effect.void))
  })

  const replace: Session<Data>["replace"] = (data, expected) =>
    Effect.flatMap(snapshot, (read) => write(data, read, expected.version))

  const end = ({ record }: Live, by: SessionAudit.EndedBy, onEnd: Effect.Effect<void> = Effect.void) => {
    const over = Effect.suspend(() => {
      state = { _tag: "Ended", error: revoked }
      return onEnd
    })
    return Effect.andThen(options.onEnding ?? Effect.void, ending.one(record, by, over))
  }

  const logout = Effect.gen(function* () {
    const known = yield* settle
    // The client keeps its token until the store has said that the session is over, so that it can try again.
    if (known._tag === "Live") return yield* Effect.asVoid(end(known, "logout", forget))
    if (isSuperseded(known.error)) return yield* known.error
    yield* forget
  })

  const authenticate = Effect.fnUntraced(function* (principal: string, login: Login = {}) {
    if (!canTell()) return yield* tooLate
    // What the store cannot read is left to its timeouts, and keeps nobody from logging in.
    const known = yield* Effect.catchIf(settle, isUnreadable, () => Effect.undefined)
    if (known?._tag === "Live" && !SessionLogin.goesOnIn(known.record, principal, login))
      yield* end(known, "another login")
    const { record, roomMade } = yield* changing(() => {
      const device = SessionLogin.deviceOf(login)
      const fresh = SessionLogin.create({ codec, limits }, sessions, audit, { ...login, principal, device, instead })
      const again = (live: Live) =>
        withToken(live, (token) => sessions.authenticate(token, { principal, device, ...limits(login) })).pipe(
          Effect.tap((session) => SessionLogin.noteLogin(audit, session, principal)),
          Effect.catchIf(
            (error) => SessionLogin.refusalOf(error) !== undefined,
            () => fresh
          )
        )
      const loggedIn =
        state._tag === "Live" && SessionLogin.goesOnIn(state.record, principal, login) ? again(state) : fresh
      return Effect.tap(loggedIn, ({ record, token }) => adopt(record, token))
    })
    yield* roomMade
    return record
  })

  /** Changes the token or the times of a live session, if the client can learn about it. */
  const changingLive = <A>(change: (live: Live) => Effect.Effect<A, SessionError>) =>
    Effect.flatMap(required, () =>
      changing(() => (state._tag === "Live" ? orFound(state)(change(state)) : Effect.fail(revoked)))
    )

  const renew: Session<Data>["renew"] = changingLive(renewed)

  const rotate = changingLive((live) => {
    const next = SessionToken.make()
    return Effect.flatMap(
      withToken(live, (token) => sessions.rotate(token, next)),
      (record) => {
        if (!canTell()) return abandon(record)
        const rotated: Live = { ...live, token: next, successor: undefined, record }
        state = rotated
        const noted = audit.note({ _tag: "Rotated", ...SessionAudit.subject(record) })
        return Effect.as(Effect.andThen(noted, tellLive(rotated)), record)
      }
    )
  })

  const setExpiry: Session<Data>["setExpiry"] = (policy) =>
    changingLive((live) => {
      const { absoluteTimeout, idleTimeout } = limits({ policy })
      return Effect.flatMap(sessions.setExpiry({ id: live.record.id, absoluteTimeout, idleTimeout }), (record) => {
        const changed: Live = { ...live, record: { ...record, renewalNonce: live.record.renewalNonce } }
        state = changed
        return Effect.as(tellLive(changed), record)
      })
    })

  const devices = Effect.flatMap(settle, (known) => {
    if (known._tag !== "Live" || known.record.principal === null) return Effect.succeed([])
    return Effect.map(sessions.list(known.record.principal), (records) =>
      records.map((record) => deviceOf(record, known.record.id))
    )
  })

  const revoke = Effect.fnUntraced(function* (id: SessionId) {
    const { record } = yield* required
    if (id === record.id) return yield* Effect.as(logout, true)
    if (!(yield* devices).some((device) => device.id === id)) return false
    return yield* ending.one({ id, principal: record.principal }, "owner")
  })

  return {
    record: Effect.map(required, ({ record }) => record),
    id: Effect.map(required, ({ record }) => record.id),
    principal: Effect.map(settle, (known) => (known._tag === "Live" ? known.record.principal : null)),
    authenticatedAt: Effect.map(settle, (known) => (known._tag === "Live" ? authenticatedAt(known.record) : null)),
    data: Effect.map(snapshot, ({ data }) => data),
    versioned: Effect.map(snapshot, ({ data, version }) => ({ data, version })),
    quarantined: Effect.map(snapshot, ({ quarantined }) => quarantined),
    lifetime: Effect.map(required, ({ lifetime }) => lifetime),
    modify,
    replace,
    authenticate,
    renew,
    rotate,
    setExpiry,
    touch: Effect.flatMap(required, (live) => orFound(live)(withToken(live, sessions.touch))),
    logout,
    devices,
    revoke,
    revokeOthers: Effect.flatMap(required, ({ record }) => ending.others(record)),
    run: (effect) => Effect.flatMap(required, ({ lifetime }) => SessionLayers.run(lifetime, effect)),
    provide: (layer) => (effect) =>
      Effect.flatMap(required, ({ lifetime }) => SessionLayers.provide(lifetime, layer)(effect))
  }
}
