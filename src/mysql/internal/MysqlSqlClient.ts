/**
 * An ordinary `SqlClient` over one connection of MySQL.
 *
 * The client lives as long as the connection it is made from and uses nothing else: statements of concurrent fibers take turns. A
 * statement whose caller is interrupted has its connection closed, and ends with it.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import type { Asked, Wire } from "./MysqlWire.ts"

/** What is beneath a connection that is lent. */
export interface Beneath {
  readonly wire: Wire
  /** Ends what it runs, from another connection. */
  readonly cancel: Effect.Effect<void, SqlError>
}

const beneath = new WeakMap<Connection, Beneath>()

/** What is beneath a connection that this module made, for the query driver. */
export const beneathOf = (connection: Connection): Beneath | undefined => beneath.get(connection)

const compiler = Statement.makeCompiler({
  dialect: "mysql",
  placeholder: () => "?",
  onIdentifier: Statement.defaultEscape("`"),
  onCustom: () => ["", []],
  onRecordUpdate: () => ["", []]
})

type Transform = (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

const objectsOf =
  (transform: Transform) =>
  ({ fields, rows }: Asked): ReadonlyArray<object> => {
    const objects = rows.map((row) => Object.fromEntries(fields.map(({ name }, at) => [name, row[at]])))
    return transform === undefined ? objects : transform(objects)
  }

const adapt = (wire: Wire, kill: Effect.Effect<void>): Connection => {
  const ask = (sql: string, params: ReadonlyArray<unknown>): Effect.Effect<Asked, SqlError> =>
    Effect.onInterrupt(wire.ask(sql, params), () => kill)
  const values = (sql: string, params: ReadonlyArray<unknown>) => Effect.map(ask(sql, params), ({ rows }) => rows)
  const objects = (sql: string, params: ReadonlyArray<unknown>, transform: Transform) =>
    Effect.map(ask(sql, params), objectsOf(transform))
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
export const make = Effect.fnUntraced(function* (beneathIt: Beneath, kill: Effect.Effect<void>) {
  const turn = yield* Semaphore.make(1)
  const adapted = adapt(beneathIt.wire, kill)
  beneath.set(adapted, beneathIt)
  const taken = Effect.as(
    Effect.acquireRelease(turn.take(1), () => turn.release(1), { interruptible: true }),
    adapted
  )
  return yield* SqlClient.make({
    acquirer: taken,
    borrower: (use) => turn.withPermit(use(adapted)),
    transactionAcquirer: taken,
    compiler,
    driver: "mysql2",
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    beginTransaction: "START TRANSACTION",
    spanAttributes: [["db.system.name", "mysql"]]
  })
})
