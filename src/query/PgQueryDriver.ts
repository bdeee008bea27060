/**
 * Runs statements on connections leased from a `ConnectionPool` over PostgreSQL.
 *
 * The lease lives as long as the scope it was opened in. Interrupting a statement sends a cancel request over a side
 * channel and waits for the server's answer; rows are taken from the server only as fast as the sink takes them.
 *
 * **Details**
 *
 * Values travel as PostgreSQL's text (see `PgWire`) and become JSON by the rules of `PgValues`. One statement per call:
 * the extended protocol refuses several, with the server's own message.
 */
import type { PgConnection, Row as PgRow } from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { ConnectionError } from "../connection/ConnectionError.ts"
import { ConnectionPool } from "../connection/ConnectionPool.ts"
import * as PgDriver from "../connection/PgDriver.ts"
import * as PgFrames from "../connection/PgFrames.ts"
import * as PgWire from "../connection/PgWire.ts"
import * as PgValues from "./PgValues.ts"
import {
  type Execution,
  type QueryConnection,
  QueryDriver,
  type RowSink,
  type Statement,
  type Summary
} from "./QueryDriver.ts"
import {
  andWritten,
  QueriesUnavailable,
  QueryError,
  ResultsUnavailable,
  ResultTooLarge,
  StatementFailed
} from "./QueryError.ts"

const unavailable = (problem: string) => new QueryError({ reason: new QueriesUnavailable({ problem }) })

/** A remote caller learns that there is no connection, and how many hold one, but not who. */
const fromConnectionError = (error: ConnectionError) => unavailable(error.message)

const ServerError = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  detail: Schema.optional(Schema.String),
  hint: Schema.optional(Schema.String),
  position: Schema.optional(Schema.Union([Schema.String, Schema.Finite]))
})
const decodeServerError = Schema.decodeUnknownOption(ServerError)

const fromSqlError = (error: SqlError): QueryError =>
  Option.match(decodeServerError(error.reason.cause), {
    onNone: () =>
      ofStatement(reasonText(error)) ??
      (error.reason._tag === "ConnectionError"
        ? unavailable(`The connection broke while the statement ran: ${reasonText(error)}`)
        : new QueryError({ reason: new StatementFailed({ problem: reasonText(error) }) })),
    onSome: ({ code, detail, hint, message, position }) =>
      new QueryError({
        reason: new StatementFailed({
          problem: message,
          code,
          ...(detail !== undefined && { detail }),
          ...(hint !== undefined && { hint }),
          ...(position !== undefined && { position: Number(position) })
        })
      })
  })

/** The driver's limit for one message of the server's, which holds a whole row. */
const maxRowBytes = 16 * 1024 * 1024

/** What breaks the connection although the statement is at fault. */
const ofStatement = (text: string): QueryError | undefined =>
  text.includes("COPY is not supported")
    ? new QueryError({ reason: new StatementFailed({ problem: "COPY is not supported. Use SELECT or INSERT." }) })
    : text.includes("maxMessageSize")
      ? new QueryError({ reason: new ResultTooLarge({ limitBytes: maxRowBytes }) })
      : undefined

const reasonText = ({ reason }: SqlError) => (reason.cause instanceof Error ? reason.cause.message : reason.message)

const execute = (
  connection: PgConnection,
  wire: PgWire.PgWire,
  statement: Statement,
  sink: RowSink,
  { onDone, onGivenUp }: Execution
) =>
  Effect.suspend(() => {
    let described = false
    let refused = false
    let decoders: ReadonlyArray<ReturnType<typeof PgValues.decoderOf>> = []
    let count = 0
    const describe = Effect.suspend(() => {
      if (described) return Effect.void
      const { columns } = wire.passed()
      decoders = columns.map(({ typeId }) => PgValues.decoderOf(typeId))
      return Effect.map(
        sink.columns(columns.map(({ name, typeId }) => ({ name, type: PgValues.typeName(typeId) }))),
        () => {
          described = true
        }
      )
    })
    const toRow = (row: PgRow) =>
      decoders.map((decode, index) => {
        const value = row[index]
        return typeof value === "string" ? decode(value) : null
      })
    const done = Effect.sync(() => {
      const summary = summaryOf(wire.passed().command, count)
      onDone(Exit.succeed(summary))
      return summary
    })
    // A cancel that came too late changed nothing: what the statement did is committed. Rows that waited for whoever takes
    // them are gone then; of a statement that only reads, nothing is lost that the cancel did not ask for.
    const whatTheServerSaid = Effect.suspend(() => {
      const { columns, command, stage } = wire.passed()
      if (stage === "sent") return Effect.sync(() => onGivenUp("unknown"))
      if (command === "" || !wire.isOutsideTransaction()) return Effect.void
      const isComplete = columns.length === 0 || summaryOf(command, count).rowCount === count
      if (isComplete) return Effect.ignore(Effect.andThen(describe, done))
      const mayOnlyRead = onlyReads.has(summaryOf(command, count).command)
      return Effect.sync(() => (mayOnlyRead ? onGivenUp("committed") : onDone(rowsLost)))
    })
    // Known when the server is done with the statement, which is after its rows were refused.
    const asFarAsItWent = (error: QueryError) => {
      const { command, stage } = wire.passed()
      if (!refused && error.reason._tag !== "ResultTooLarge") return error
      return stage === "sent" ? andWritten(error, "unknown") : command === "" ? error : andWritten(error, "committed")
    }
    return connection.stream(statement.sql, statement.params.map(PgValues.encodeParameter)).pipe(
      Stream.mapError(fromSqlError),
      Stream.runForEachArray((chunk) =>
        describe.pipe(
          Effect.andThen(Effect.suspend(() => sink.rows(chunk.map(toRow)))),
          Effect.tapError(() =>
            Effect.sync(() => {
              refused = true
            })
          ),
          Effect.andThen(
            Effect.sync(() => {
              count += chunk.length
            })
          )
        )
      ),
      Effect.mapError(asFarAsItWent),
      Effect.andThen(describe),
      Effect.andThen(
        Effect.suspend(() =>
          wire.isOutsideTransaction()
            ? done
            : Effect.fail(new QueryError({ reason: new StatementFailed({ problem: leftOpen }) }))
        )
      ),
      Effect.onInterrupt(() => whatTheServerSaid)
    )
  }).pipe(wire.asText)

/** As the server calls them when they are done. */
const onlyReads: ReadonlySet<string> = new Set(["SELECT", "SHOW", "FETCH", "EXPLAIN"])

const rowsLost = Exit.fail(
  new QueryError({
    reason: new ResultsUnavailable({
      problem:
        "The statement took effect before it was cancelled, but not all its rows were kept. Look at what it wrote."
    })
  })
)

const leftOpen =
  "The statement left a transaction open, and it was rolled back. Each query is a transaction of its own: leave BEGIN out."

const literal = (value: string) => `'${value.replaceAll("'", "''")}'`
const setAny = (settings: Readonly<Record<string, string>>) =>
  PgFrames.query(
    Object.entries(settings)
      .map(([name, value]) => `SELECT pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`)
      .join(";")
  )

/** Cheaper than a SELECT, which is planned and has rows; for names that need no quotes. */
const setOurs = (settings: Readonly<Record<string, string>>) =>
  PgFrames.query(
    Object.entries(settings)
      .map(([name, value]) => `SET ${name} TO ${literal(value)}`)
      .join(";")
  )

/** What is refused here was chosen by the operator or the app, not by who wrote the statement. */
const refused = (error: PgWire.ExchangeFailed) => unavailable(`A setting of the query was refused: ${error.message}`)

/** How much later than the deadline the server ends a statement by itself, because we are gone. */
const graceMillis = 1000

/** The longest timeout that PostgreSQL takes. */
const longestMillis = 2 ** 31 - 1

/** When the server ends a statement, in milliseconds. */
const timeoutOf = (deadline: Duration.Duration) =>
  Math.min(Math.ceil(Duration.toMillis(deadline)) + graceMillis, longestMillis)

/**
 * Makes the settings of a statement. The app's are confirmed before it is sent; ours, which no server refuses, travel ahead of
 * it in the same flight. The reset of the connection undoes both.
 */
const prepare = (wire: PgWire.PgWire, { settings }: Statement, { deadline, id }: Execution) => {
  const ours = {
    application_name: `holdfast ${id}`,
    ...(deadline !== undefined && { statement_timeout: String(timeoutOf(deadline)) })
  }
  const send = Effect.sync(() => wire.sendUnsafe(setOurs(ours), 1))
  return settings === undefined
    ? send
    : Effect.andThen(Effect.mapError(wire.exchange(setAny(settings), 1), refused), send)
}

const summaryOf = (tag: string, count: number): Summary => {
  const words = tag.split(" ")
  const affected = Number(words.at(-1))
  return { command: words[0] ?? "", rowCount: words.length > 1 && Number.isInteger(affected) ? affected : count }
}

/** Makes the driver over the pool in context. */
export const make = Effect.gen(function* () {
  const pool = yield* ConnectionPool
  const open = Effect.gen(function* () {
    const { id, kill, services } = yield* Effect.mapError(pool.lease(), fromConnectionError)
    const lent = Context.getOption(services, PgDriver.Pinned)
    if (Option.isNone(lent)) {
      return yield* unavailable("The pool is not one of PostgreSQL connections. Use PgConnectionSource.")
    }
    const wire = PgWire.attach(lent.value.connection)
    if (wire === undefined) {
      return yield* unavailable("This version of @effect/sql-pg is not supported. Install @effect/sql-pg ~4.0.5.")
    }
    return {
      id,
      execute: (statement, sink, execution) =>
        Effect.flatMap(prepare(wire, statement, execution), (sent) =>
          PgDriver.orKill({
            kill: Effect.andThen(
              Effect.sync(() => execution.onGivenUp("unknown")),
              kill
            ),
            ahead: Effect.exit(sent)
          })(execute(lent.value.pinned, wire, statement, sink, execution))
        )
    } satisfies QueryConnection
  })
  return QueryDriver.of({ open })
})

/** Statements run on connections of the `ConnectionPool` in context. */
export const layer: Layer.Layer<QueryDriver, never, ConnectionPool> = Layer.effect(QueryDriver, make)
