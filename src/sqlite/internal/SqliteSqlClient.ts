/**
 * An ordinary `SqlClient` over one SQLite database in a process of its own.
 *
 * The client lives as long as the connection it is made from. Statements of concurrent fibers take turns. A statement whose caller is
 * interrupted has its process ended.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import type { SQLInputValue } from "node:sqlite"
import type { Wire } from "./SqliteWire.ts"

const wires = new WeakMap<Connection, Wire>()

/** The wire of a connection that this module made, for the query driver. */
export const wireOf = (connection: Connection): Wire | undefined => wires.get(connection)

interface Asked {
  readonly names: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<unknown>>
}

type Transform = (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

const control = /^\s*(BEGIN|COMMIT|ROLLBACK)\s*$/i

const adapt = (wire: Wire): Connection => {
  const ask = (sql: string, params: ReadonlyArray<unknown>) =>
    Effect.suspend(() => {
      const known = control.exec(sql)?.[1]?.toLowerCase() as "begin" | "commit" | "rollback" | undefined
      let names: ReadonlyArray<string> = []
      const rows: Array<ReadonlyArray<unknown>> = []
      const taker = {
        columns: (columns: ReadonlyArray<{ readonly name: string }>) =>
          Effect.sync(() => {
            names = columns.map(({ name }) => name)
          }),
        rows: (some: ReadonlyArray<ReadonlyArray<unknown>>) => Effect.sync(() => void rows.push(...some))
      }
      const asked =
        known === undefined
          ? wire.tell({ do: "run", sql, params: params as ReadonlyArray<SQLInputValue> }, taker)
          : wire.tell({ do: known })
      return asked.pipe(
        Effect.map((): Asked => ({ names, rows })),
        Effect.onInterrupt(() => wire.kill)
      )
    })
  const values = (sql: string, params: ReadonlyArray<unknown>) => Effect.map(ask(sql, params), ({ rows }) => rows)
  const objects = (sql: string, params: ReadonlyArray<unknown>, transform: Transform) =>
    Effect.map(ask(sql, params), ({ names, rows }) => {
      const all = rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at]])))
      return transform === undefined ? all : transform(all)
    })
  return {
    execute: objects,
    executeRaw: ask,
    executeValues: values,
    executeValuesUnprepared: values,
    executeUnprepared: objects,
    executeStream: (sql, params, transform) => Stream.fromIterableEffect(objects(sql, params, transform))
  }
}

/** Makes the client. */
export const make = Effect.fnUntraced(function* (wire: Wire) {
  const turn = yield* Semaphore.make(1)
  const adapted = adapt(wire)
  wires.set(adapted, wire)
  const taken = Effect.as(
    Effect.acquireRelease(turn.take(1), () => turn.release(1), { interruptible: true }),
    adapted
  )
  return yield* SqlClient.make({
    acquirer: taken,
    borrower: (use) => turn.withPermit(use(adapted)),
    transactionAcquirer: taken,
    compiler: Statement.makeCompilerSqlite(),
    driver: "sqlite-process",
    spanAttributes: [["db.system.name", "sqlite"]]
  })
})
