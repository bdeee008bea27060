/**
 * What a handle does to its session: changes, logins, renewals and ends. See `SessionEngine`.
 *
 * It lives as long as its handle, and is made when the first of it is asked for: most requests only read.
 *
 * **Details**
 *
 * What changes the token is not interrupted halfway, because the client has to learn about it; the store's time limit
 * bounds it. There is one such change at a time. The functions given to `modify` run beside each other, and the store's
 * version tells which was first.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as SessionAudit from "../SessionAudit.ts"
import type { Stored } from "../SessionData.ts"
import type { SessionError } from "../SessionError.ts"
import type { SessionId } from "../SessionId.ts"
import type { SessionRecord } from "../SessionRecord.ts"
import * as SessionToken from "../SessionToken.ts"
import * as SessionChanges from "./SessionChanges.ts"
import * as SessionEnding from "./SessionEnding.ts"
import { deviceOf, type Login, type Session } from "./SessionHandle.ts"
import * as SessionLogin from "./SessionLogin.ts"
import type { SessionReading } from "./SessionReading.ts"
import { conflict, isSuperseded, isUnreadable, type Live, revoked, type Snapshot, tooLate } from "./SessionState.ts"

/** Makes what can be done on what a handle knows. */
export const make = <Data>(on: SessionReading<Data>) => {
  const { audit, scope, sessions } = on
  const { codec, limits } = on.config
  const ending = SessionEnding.make(sessions, audit)
  const forget = on.tell(Option.none())
  /** Of a token that leads nowhere: another answer may have brought a new one in its place. */
  const instead = Option.getOrUndefined(Option.map(on.options.token, SessionToken.hash))

  /** A session that was just made, or has a new token, is this handle's from now on. */
  const adopt = (record: SessionRecord, token: SessionToken.SessionToken) => {
    if (!on.canTell()) return abandon(record)
    return Effect.flatMap(
      Scope.provide(sessions.hold(record, on.options.onEnd?.()), scope).pipe(Effect.catch((error) => on.found(error))),
      ({ lifetime }) => {
        const live: Live = { _tag: "Live", token, successor: undefined, lifetime, record }
        on.state = live
        return Effect.as(on.tellLive(live), record)
      }
    )
  }

  /** The response began while the store was asked. A session whose token nobody learns must not go on. */
  const abandon = (record: SessionRecord) =>
    Effect.flatMap(ending.begin(record, "untold"), () => {
      if (on.state._tag === "Live") on.state = { _tag: "Ended", error: revoked }
      return Effect.fail(tooLate)
    })

  /** The first change of a visitor's data makes a session, unless somebody else made one meanwhile. */
  const begin = (stored: Stored) =>
    on.changing(() => {
      if (on.state._tag !== "Visitor") return Effect.fail(conflict)
      const created = Effect.tap(
        sessions.create({ ...stored, ...limits(), principal: null, device: {}, instead }),
        ({ record }) => audit.note({ _tag: "Created", ...SessionAudit.subject(record), device: record.device })
      )
      return Effect.flatMap(created, ({ record, token }) => adopt(record, token))
    })

  /** A newer record of the session; what is known about its token stays. */
  const seen = (record: SessionRecord) => {
    if (on.state._tag !== "Live" || on.state.record.id !== record.id || on.state.record.version >= record.version)
      return
    on.state = { ...on.state, record: { ...record, renewalNonce: on.state.record.renewalNonce } }
  }
  const refresh = (live: Live) => Effect.map(on.orFound(live)(on.withToken(live, sessions.load)), seen)

  /** Writes data if the session is at this version still; nothing if it would be what it was. */
  const write = Effect.fnUntraced(function* (value: Data, read: Snapshot<Data>, version: number) {
    // The session goes on under a newer token: a second one beside it would take its place in the browser.
    if (on.state._tag === "Visitor" && isSuperseded(on.state.error)) return yield* on.state.error
    const { stored, text } = yield* codec.write(value, read.quarantined)
    if (text === read.text && version === read.version) return { data: value, version }
    const known = yield* on.settle
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
    return yield* on.orFound(known)(Effect.uninterruptible(updated))
  })

  const modify = SessionChanges.modify({
    snapshot: on.snapshot,
    write,
    refresh: Effect.suspend(() => (on.state._tag === "Live" ? refresh(on.state) : Effect.void))
  })

  const replace: Session<Data>["replace"] = (data, expected) =>
    Effect.flatMap(on.snapshot, (read) => write(data, read, expected.version))

  const end = ({ record }: Live, by: SessionAudit.EndedBy, onEnd: Effect.Effect<void> = Effect.void) => {
    const over = Effect.suspend(() => {
      on.state = { _tag: "Ended", error: revoked }
      return onEnd
    })
    return Effect.andThen(on.options.onEnding ?? Effect.void, ending.one(record, by, over))
  }

  const logout = Effect.gen(function* () {
    const known = yield* on.settle
    // The client keeps its token until the store has said that the session is over, so that it can try again.
    if (known._tag === "Live") return yield* Effect.asVoid(end(known, "logout", forget))
    if (isSuperseded(known.error)) return yield* known.error
    yield* forget
  })

  const authenticate = Effect.fnUntraced(function* (principal: string, login: Login = {}) {
    if (!on.canTell()) return yield* tooLate
    // What the store cannot read is left to its timeouts, and keeps nobody from logging in.
    const known = yield* Effect.catchIf(on.settle, isUnreadable, () => Effect.undefined)
    if (known?._tag === "Live" && !SessionLogin.goesOnIn(known.record, principal, login))
      yield* end(known, "another login")
    const { record, roomMade } = yield* on.changing(() => {
      const device = SessionLogin.deviceOf(login)
      const fresh = SessionLogin.create({ codec, limits }, sessions, audit, { ...login, principal, device, instead })
      const again = (live: Live) =>
        on
          .withToken(live, (token) => sessions.authenticate(token, { principal, device, ...limits(login) }))
          .pipe(
            Effect.tap((session) => SessionLogin.noteLogin(audit, session, principal)),
            Effect.catchIf(
              (error) => SessionLogin.refusalOf(error) !== undefined,
              () => fresh
            )
          )
      const loggedIn =
        on.state._tag === "Live" && SessionLogin.goesOnIn(on.state.record, principal, login) ? again(on.state) : fresh
      return Effect.tap(loggedIn, ({ record, token }) => adopt(record, token))
    })
    yield* roomMade
    return record
  })

  /** Changes the token or the times of a live session, if the client can learn about it. */
  const changingLive = <A>(change: (live: Live) => Effect.Effect<A, SessionError>) =>
    Effect.flatMap(on.required, () =>
      on.changing(() => (on.state._tag === "Live" ? on.orFound(on.state)(change(on.state)) : Effect.fail(revoked)))
    )

  /** Replaces the token if it is due, and tells whether it did. */
  const renewed = (live: Live): Effect.Effect<boolean, SessionError> => {
    const nonce = live.record.renewalNonce
    if (nonce === null || live.successor !== undefined || !on.canTell()) return Effect.succeed(false)
    const successor = SessionToken.next(live.token, nonce)
    return Effect.flatMap(sessions.renew(live.token, successor), (record) => {
      const next: Live = { ...live, record: { ...record, renewalNonce: null }, successor }
      on.state = next
      return Effect.andThen(
        audit.note({ _tag: "Renewed", ...SessionAudit.subject(record) }),
        Effect.as(on.tellLive(next), true)
      )
    })
  }

  const renew: Session<Data>["renew"] = changingLive((live) => renewed(live))

  const rotate = changingLive((live) => {
    const next = SessionToken.make()
    return Effect.flatMap(
      on.withToken(live, (token) => sessions.rotate(token, next)),
      (record) => {
        if (!on.canTell()) return abandon(record)
        const rotated: Live = { ...live, token: next, successor: undefined, record }
        on.state = rotated
        const noted = audit.note({ _tag: "Rotated", ...SessionAudit.subject(record) })
        return Effect.as(Effect.andThen(noted, on.tellLive(rotated)), record)
      }
    )
  })

  const setExpiry: Session<Data>["setExpiry"] = (policy) =>
    changingLive((live) => {
      const { absoluteTimeout, idleTimeout } = limits({ policy })
      return Effect.flatMap(sessions.setExpiry({ id: live.record.id, absoluteTimeout, idleTimeout }), (record) => {
        const changed: Live = { ...live, record: { ...record, renewalNonce: live.record.renewalNonce } }
        on.state = changed
        return Effect.as(on.tellLive(changed), record)
      })
    })

  const devices = Effect.flatMap(on.settle, (known) => {
    if (known._tag !== "Live" || known.record.principal === null) return Effect.succeed([])
    return Effect.map(sessions.list(known.record.principal), (records) =>
      records.map((record) => deviceOf(record, known.record.id))
    )
  })

  const revoke = Effect.fnUntraced(function* (id: SessionId) {
    const { record } = yield* on.required
    if (id === record.id) return yield* Effect.as(logout, true)
    if (!(yield* devices).some((device) => device.id === id)) return false
    return yield* ending.one({ id, principal: record.principal }, "owner")
  })

  return {
    modify,
    replace,
    authenticate,
    renew,
    rotate,
    setExpiry,
    touch: Effect.flatMap(on.required, (live) => on.orFound(live)(on.withToken(live, sessions.touch))),
    logout,
    devices,
    revoke,
    revokeOthers: Effect.flatMap(on.required, ({ record }) => ending.others(record))
  }
}
