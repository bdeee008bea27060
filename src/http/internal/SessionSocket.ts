/**
 * A WebSocket that a session authenticated, which is closed when the session is over.
 *
 * It lives as long as the request that became the socket. It holds the session from the first call that found it live.
 *
 * ```
 * request scope ──┬── session held        from the first call on
 *                 └── closing (a fiber)   the session ended → the calls are answered → close frame
 * ```
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Socket from "effect/socket/Socket"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import { Sessions } from "../../session/Sessions.ts"

/** "401" in the range that RFC 6455 (7.4.2) leaves to applications. */
export const closeCode = 4401

const closing = new Socket.CloseEvent(closeCode, "The session is over. Log in again, then connect again.")

export interface SessionSocket {
  /** The request was upgraded. */
  readonly opened: (socket: Socket.Socket) => Effect.Effect<unknown>
  /** A call found its session: the socket belongs to it. The socket is not closed before the call's scope is. */
  readonly authenticated: (record: SessionRecord) => Effect.Effect<void, never, Scope.Scope>
  /** The token of the socket leads to no session. Closes a socket that a session authenticated, after the call's scope. */
  readonly refused: Effect.Effect<void, never, Scope.Scope>
}

/** More than a process has fibers. */
const everyCall = Number.MAX_SAFE_INTEGER

/** Makes the socket of the running request. */
export const make = Effect.gen(function* () {
  const sessions = yield* Sessions
  const socket = yield* Deferred.make<Socket.Socket>()
  const owner = yield* Deferred.make<SessionRecord>()
  const refusal = yield* Deferred.make<void>()
  const calls = Semaphore.makeUnsafe(everyCall)
  const close = Effect.gen(function* () {
    const { write } = yield* (yield* Deferred.await(socket)).writer
    yield* Effect.ignore(write(closing))
  })
  // Held, so that it is the end of the session and not of the last call.
  const ended = Effect.flatMap(Deferred.await(owner), (record) =>
    Effect.ignore(Effect.flatMap(sessions.hold(record), ({ lifetime }) => lifetime.ended))
  )
  const answered = calls.take(everyCall)
  const refused = Effect.andThen(Deferred.await(owner), Deferred.await(refusal))
  yield* Effect.forkScoped(
    Effect.andThen(Effect.raceFirst(Effect.andThen(ended, answered), refused), Effect.scoped(close))
  )
  return {
    opened: (opened) => Deferred.succeed(socket, opened),
    authenticated: (record) => Effect.andThen(calls.takeScoped(1), Deferred.succeed(owner, record)),
    refused: Effect.addFinalizer(() => Deferred.succeed(refusal, undefined))
  } satisfies SessionSocket
})
