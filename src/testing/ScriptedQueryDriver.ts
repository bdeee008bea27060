/**
 * A `QueryDriver` without a server: statements do what the script says, and what is held and run is counted.
 *
 * Its connections live like any others, in the scope they were opened in, stand in the ledger, and are numbered from 1.
 */
import * as Exit from "effect/Exit"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ledger from "../lifetime/Ledger.ts"
import {
  type Execution,
  QueryDriver,
  type Row,
  type RowSink,
  type Statement,
  type Summary
} from "../query/QueryDriver.ts"
import type { QueryError } from "../query/QueryError.ts"
import type { QueryId } from "../query/QueryId.ts"

/** What the driver does. Everything succeeds at once, with no rows, where nothing is said. */
export interface Script {
  readonly open?: ((connection: number) => Effect.Effect<void, QueryError>) | undefined
  readonly execute?:
    ((statement: Statement, sink: RowSink, execution: Execution) => Effect.Effect<Summary, QueryError>) | undefined
  /** What the release of a connection takes. */
  readonly close?: ((connection: number) => Effect.Effect<void>) | undefined
}

/** What happened so far. */
export interface Log {
  readonly opened: () => number
  /** How often each connection was closed, by its number. */
  readonly closed: ReadonlyMap<number, number>
  /** The queries whose statement runs, or whose connection is not closed yet. */
  readonly busy: ReadonlySet<QueryId>
  /** How many statements were sent, by their text. */
  readonly sent: ReadonlyMap<string, number>
}

/** A statement of the server's as {@link answer} plays it. Times are counted in turns of the scheduler. */
export interface Play {
  readonly rows?: ReadonlyArray<Row> | undefined
  /** How long it runs. Default: 0. `Infinity` is until it is cancelled. */
  readonly turns?: number | undefined
  /** Why it fails, when it is done. */
  readonly error?: QueryError | undefined
  /** How long the server takes to answer a cancel. Default: 0. */
  readonly cancelTurns?: number | undefined
  /** Whether the server was done all the same when the cancel arrived. Default: false. */
  readonly isDoneOnCancel?: boolean | undefined
}

const turns = (count: number) => (count === 0 ? Effect.void : Effect.repeat(Effect.yieldNow, { times: count - 1 }))

/** Plays a statement. */
export const answer = (
  { cancelTurns = 0, error, isDoneOnCancel = false, rows = [], turns: count = 0 }: Play,
  sink: RowSink,
  { onDone }: Execution
): Effect.Effect<Summary, QueryError> => {
  const summary = { command: "SELECT", rowCount: rows.length }
  const fill = Effect.andThen(sink.columns([{ name: "value", type: "text" }]), sink.rows(rows))
  const done = Effect.sync(() => {
    onDone(Exit.succeed(summary))
    return summary
  })
  return Effect.uninterruptibleMask((restore) =>
    restore(count === Number.POSITIVE_INFINITY ? Effect.never : turns(count)).pipe(
      Effect.onInterrupt(() =>
        Effect.andThen(turns(cancelTurns), isDoneOnCancel ? Effect.andThen(Effect.ignore(fill), done) : Effect.void)
      ),
      Effect.andThen(error === undefined ? Effect.andThen(fill, done) : Effect.fail(error))
    )
  )
}

/** A driver that follows the script. */
export const make = (script: Script = {}): { readonly driver: QueryDriver["Service"]; readonly log: Log } => {
  const closed = new Map<number, number>()
  const busy = new Set<QueryId>()
  const sent = new Map<string, number>()
  let count = 0
  let opened = 0

  const driver = QueryDriver.of({
    open: Effect.suspend(() => {
      const number = ++count
      const used = new Set<QueryId>()
      return Ledger.hold(
        { kind: "connection", id: String(number) },
        Effect.map(script.open?.(number) ?? Effect.void, () => {
          opened++
          return {
            id: String(number),
            execute: (statement: Statement, sink: RowSink, execution: Execution) =>
              Effect.suspend(() => {
                used.add(execution.id)
                busy.add(execution.id)
                sent.set(statement.sql, (sent.get(statement.sql) ?? 0) + 1)
                return script.execute?.(statement, sink, execution) ?? answer({}, sink, execution)
              })
          }
        }),
        () =>
          Effect.andThen(
            script.close?.(number) ?? Effect.void,
            Effect.sync(() => {
              closed.set(number, (closed.get(number) ?? 0) + 1)
              for (const id of used) busy.delete(id)
            })
          )
      )
    })
  })
  return { driver, log: { opened: () => opened, closed, busy, sent } }
}

/** The layer of a driver made before. */
export const layer = (driver: QueryDriver["Service"]): Layer.Layer<QueryDriver> => Layer.succeed(QueryDriver, driver)
