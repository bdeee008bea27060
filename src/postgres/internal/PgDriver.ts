/**
 * What the PostgreSQL driver does not show in public: whether a connection may be used again.
 *
 * The driver marks a connection for retirement when it broke, or when a statement was cancelled and the server did not
 * confirm it; its own pool reads that mark from a private field. {@link watch} reads the same one, and where it is not
 * there, says of every connection that it may not be used again: slower, never wrong.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type * as Deadlines from "../../lifetime/Deadlines.ts"
import type { Recall, State } from "../../connection/ConnectionSource.ts"
import * as PgOpening from "./PgOpening.ts"
import * as PgWire from "./PgWire.ts"

/** A lent connection, for drivers of this room: the whole connection and the borrower's view of it. */
export class Pinned extends Context.Service<
  Pinned,
  {
    readonly connection: PgConnection.PgConnection
    readonly pinned: PgConnection.PgConnection
    /** What resets the connection, where that may travel behind the borrower's last statement. */
    readonly reset: PgWire.Messages | undefined
  }
>()("holdfast/postgres/PgDriver/Pinned") {}

const internalsKey = "~@effect/sql-pg/PgConnection/internals"

interface Internals {
  readonly deadError: () => unknown
  readonly retireHooks: Set<() => void>
  reserve?: Effect.Effect<void, never, Scope.Scope> | undefined
}

const isInternals = (internals: unknown): internals is Internals =>
  hasProperty(internals, "deadError") &&
  typeof internals.deadError === "function" &&
  hasProperty(internals, "retireHooks") &&
  internals.retireHooks instanceof Set

const internalsOf = (connection: PgConnection.PgConnection): Internals | undefined =>
  hasProperty(connection, internalsKey) && isInternals(connection[internalsKey]) ? connection[internalsKey] : undefined

/** How long the server may take to confirm a cancel before the connection is given up. */
const cancelLimit = Duration.seconds(1)

/**
 * Waits a second for an end, and kills where that was not enough: the statement is ended at the server in another way, whose
 * word on it is still heard. What is left of the end waits for the answer to a cancel that will not come, on a closed connection.
 */
export const endOrKill = <A>(end: Effect.Effect<A>, kill: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.flatMap(Effect.timeoutOption(end, cancelLimit), (ended) => (Option.isSome(ended) ? Effect.void : kill))

/** What a statement's connection is killed by, and after which time without an answer, if any. */
export interface Guard extends Recall {
  readonly deadlines?: Deadlines.Deadlines | undefined
}

/** Runs a statement whose interruption is over when the server has confirmed the cancel, or when the connection was killed. */
export const orKill =
  ({ deadlines, kill }: Pick<Guard, "deadlines" | "kill">) =>
  <A, E>(statement: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.forkDetach(statement, { startImmediately: true }), (fiber) => {
        const forget = deadlines?.add(() => Effect.runForkWith(fiber.context)(kill))
        fiber.addObserver(() => forget?.())
        return Effect.onInterrupt(restore(Fiber.join(fiber)), () => endOrKill(Fiber.interrupt(fiber), kill))
      })
    )

/** As {@link orKill}, for the rows of a statement. */
export const streamOrKill =
  (guard: Guard) =>
  <A, E>(rows: Stream.Stream<A, E>): Stream.Stream<A, E> =>
    Stream.unwrap(
      Effect.gen(function* () {
        const scope = Scope.makeUnsafe()
        yield* Effect.addFinalizer((exit) =>
          Effect.flatMap(Effect.forkDetach(Scope.close(scope, exit), { startImmediately: true }), (closing) =>
            endOrKill(Fiber.await(closing), guard.kill)
          )
        )
        const pull = yield* Scope.provide(Stream.toPull(rows), scope)
        return Stream.fromPull(Effect.succeed(orKill(guard)(pull)))
      })
    )

/** How connections are opened. */
export type Config = PgConnection.Config

/** Opens connections for the current scope. */
export type Connect = (config: PgConnection.Config) => Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>

/**
 * Makes a {@link Connect} whose maker's scope, when it closes, waits for the backends of all of them to be gone. The driver
 * itself only says goodbye.
 */
export const connect = Effect.gen(function* () {
  const leaving = yield* FiberSet.make<void>()
  yield* Effect.addFinalizer(() => FiberSet.awaitEmpty(leaving))
  const connect: Connect = (config) =>
    Effect.tap(PgOpening.make(config), (connection) =>
      Effect.addFinalizer(() => FiberSet.run(leaving, PgWire.gone(connection)))
    )
  return connect
})

/** A connection for one purpose, on which every statement is {@link PgOpening.orClose}. */
export const brief = Effect.fnUntraced(function* (config: PgConnection.Config, connect: Connect = PgOpening.make) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const connection = yield* Scope.provide(connect(config), scope)
  return (sql: string, params?: ReadonlyArray<unknown>) =>
    PgOpening.orClose(scope, connection.queryValues(sql, params, false))
})

/**
 * What a connection that others share does before a stream or a transaction has it to itself: its pool gives it to nobody else
 * meanwhile. Where the driver does not ask, the others wait on that connection.
 */
export const onPin = (
  connection: PgConnection.PgConnection,
  reserve: Effect.Effect<void, never, Scope.Scope>
): void => {
  const internals = internalsOf(connection)
  if (internals !== undefined) internals.reserve = reserve
}

/** Tells, at any later moment, what the connection is still good for. */
export const watch = (connection: PgConnection.PgConnection): (() => State) => {
  const internals = internalsOf(connection)
  if (internals === undefined) return () => "retired"
  let retired = false
  internals.retireHooks.add(() => {
    retired = true
  })
  return () => (internals.deadError() !== undefined ? "dead" : retired ? "retired" : "usable")
}
