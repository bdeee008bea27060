/**
 * What the PostgreSQL driver shows only under the counter: whether a connection may be used again.
 *
 * The driver marks a connection for retirement when it broke, or when a statement was cancelled and the server did not
 * confirm it; its own pool reads that mark from a private field. {@link watch} reads the same one, and where it is not
 * there, says of every connection that it may not be used again: slower, never wrong.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import { hasProperty } from "effect/Predicate"
import type { State } from "./ConnectionSource.ts"

/** A lent connection, for drivers of this room: the whole connection and the borrower's view of it. */
export class Pinned extends Context.Service<
  Pinned,
  {
    readonly connection: PgConnection
    readonly pinned: PgConnection
  }
>()("holdfast/connection/PgDriver/Pinned") {}

const internalsKey = "~@effect/sql-pg/PgConnection/internals"

interface Internals {
  readonly deadError: () => unknown
  readonly retireHooks: Set<() => void>
}

const internalsOf = (connection: PgConnection): Internals | undefined => {
  if (!hasProperty(connection, internalsKey)) return undefined
  const internals = connection[internalsKey]
  return hasProperty(internals, "deadError") &&
    typeof internals.deadError === "function" &&
    hasProperty(internals, "retireHooks") &&
    internals.retireHooks instanceof Set
    ? (internals as unknown as Internals)
    : undefined
}

/** Tells, at any later moment, what the connection is still good for. */
export const watch = (connection: PgConnection): (() => State) => {
  const internals = internalsOf(connection)
  if (internals === undefined) return () => "retired"
  let retired = false
  internals.retireHooks.add(() => {
    retired = true
  })
  return () => (internals.deadError() !== undefined ? "dead" : retired ? "retired" : "usable")
}
