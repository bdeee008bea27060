/**
 * What the PostgreSQL driver shows only under the counter: whether a connection may be used again.
 *
 * The driver marks a connection for retirement when it broke, or when a statement was cancelled and the server did not
 * confirm it; its own pool reads that mark from a private field. {@link watch} reads the same one, and where it is not
 * there, says of every connection that it may not be used again: slower, never wrong.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { hasProperty } from "effect/Predicate"
import * as Scope from "effect/Scope"
import type { State } from "./ConnectionSource.ts"

/** A lent connection, for drivers of this room: the whole connection and the borrower's view of it. */
export class Pinned extends Context.Service<
  Pinned,
  {
    readonly connection: PgConnection.PgConnection
    readonly pinned: PgConnection.PgConnection
  }
>()("holdfast/connection/PgDriver/Pinned") {}

const internalsKey = "~@effect/sql-pg/PgConnection/internals"

interface Internals {
  readonly deadError: () => unknown
  readonly retireHooks: Set<() => void>
}

const internalsOf = (connection: PgConnection.PgConnection): Internals | undefined => {
  if (!hasProperty(connection, internalsKey)) return undefined
  const internals = connection[internalsKey]
  return hasProperty(internals, "deadError") &&
    typeof internals.deadError === "function" &&
    hasProperty(internals, "retireHooks") &&
    internals.retireHooks instanceof Set
    ? (internals as unknown as Internals)
    : undefined
}

/**
 * Runs a statement on a connection that is nobody else's and lives in this scope. Interrupting it closes the connection instead
 * of waiting for a cancel to be confirmed: for statements whose connection can be spared, when the network may be dead.
 */
export const orClose = <A, E>(scope: Scope.Closeable, statement: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDetach(statement, { startImmediately: true }), (fiber) =>
      Effect.onInterrupt(restore(Fiber.join(fiber)), () =>
        Effect.andThen(Scope.close(scope, Exit.void), Effect.forkDetach(Fiber.interrupt(fiber)))
      )
    )
  )

/** A connection for one purpose, on which every statement is {@link orClose}. */
export const brief = Effect.fnUntraced(function* (config: PgConnection.Config) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const connection = yield* Scope.provide(PgConnection.make(config), scope)
  return (sql: string, params?: ReadonlyArray<unknown>) => orClose(scope, connection.queryValues(sql, params, false))
})

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
