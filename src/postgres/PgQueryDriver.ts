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
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import type { ConnectionError } from "../connection/ConnectionError.ts"
import * as ConnectionAnswers from "../connection/internal/ConnectionAnswers.ts"
import { ConnectionPool } from "../connection/ConnectionPool.ts"
import type { Recall } from "../connection/ConnectionSource.ts"
import * as PgDriver from "./internal/PgDriver.ts"
import * as PgFrames from "./internal/PgFrames.ts"
import * as PgStatement from "./internal/PgStatement.ts"
import * as PgWire from "./internal/PgWire.ts"
import * as PgValues from "./internal/PgValues.ts"
import {
  type Execution,
  type QueryConnection,
  QueryDriver,
  type Row,
  type RowSink,
  type Statement,
  type Summary
} from "../query/QueryDriver.ts"
import {
  andWritten,
  QueriesUnavailable,
  QueryError,
  ResultsUnavailable,
  ResultTooLarge,
  StatementFailed
} from "../query/QueryError.ts"

const unavailable = (problem: string) => new QueryError({ reason: new QueriesUnavailable({ problem }) })

/** A remote caller learns that there is no connection, but neither where the server is nor who holds them. */
const fromConnectionError = (error: ConnectionError) => unavailable(ConnectionAnswers.sentence(error))

const fromServerError = ({ code, detail, hint, message, position }: PgFrames.ServerError) =>
  new QueryError({
    reason: new StatementFailed({
      problem: message,
      ...(code !== undefined && { code }),
      ...(detail !== undefined && { detail }),
      ...(hint !== undefined && { hint }),
      ...(position !== undefined && { position })
    })
  })

const notSent = () => unavailable("The connection broke before the statement was sent. Submit it again.")

const fromBroken: Record<PgStatement.Broken, () => QueryError> = {
  lost: () => unavailable("The connection broke while the statement ran. Look at what it wrote before you try again."),
  copy: () =>
    new QueryError({ reason: new StatementFailed({ problem: "COPY is not supported. Use SELECT or INSERT." }) }),
  "too large": () => new QueryError({ reason: new ResultTooLarge({ limitBytes: PgStatement.maxMessageBytes }) })
}

/** What ends a statement that is not wanted any more, and why the pool ended it, if it did. */
interface Ending extends Recall {
  readonly cancel: Effect.Effect<void>
}

/** A statement that ends by itself meanwhile costs no cancel, whose answer would come too late: that costs the connection. */
const grace = Duration.millis(5)

/** A cancel hits whatever runs when it arrives, so that what is ahead of the statement must have been answered. */
const end = (running: PgStatement.PgStatement, { cancel, kill }: Ending) =>
  PgDriver.endOrKill(
    Effect.timeoutOrElse(running.over, {
      duration: grace,
      orElse: () =>
        Effect.andThen(
          running.begun,
          Effect.suspend(() => (running.isOver ? Effect.void : Effect.andThen(cancel, running.over)))
        )
    }),
    kill
  )

/** Runs the messages of a statement to the end of what the server says. */
const execute = (
  running: PgStatement.PgStatement,
  send: Effect.Effect<void>,
  ending: Ending,
  sink: RowSink,
  { onDone, onGivenUp }: Execution
): Effect.Effect<Summary, QueryError> => {
  let isDescribed = false
  let isRefused = false
  let decoders: ReadonlyArray<ReturnType<typeof PgValues.decoderOf>> = []
  let count = 0
  const refusable = Effect.tapError<QueryError, void, never, never>(() =>
    Effect.sync(() => {
      isRefused = true
    })
  )
  const describe = Effect.suspend(() => {
    if (isDescribed) return Effect.void
    decoders = running.columns.map(({ typeId }) => PgValues.decoderOf(typeId))
    const columns = running.columns.map(({ name, typeId }) => ({ name, type: PgValues.typeName(typeId) }))
    return Effect.map(refusable(sink.columns(columns)), () => {
      isDescribed = true
    })
  })
  const toRow = (texts: PgStatement.Texts): Row =>
    texts.map((text, index) => (text === null ? null : (decoders[index] ?? PgValues.text)(text)))
  const take = (texts: ReadonlyArray<PgStatement.Texts>) =>
    Effect.andThen(
      describe,
      Effect.suspend(() =>
        Effect.map(refusable(sink.rows(texts.map(toRow))), () => {
          count += texts.length
        })
      )
    )
  const takeAll: Effect.Effect<void, QueryError> = Effect.flatMap(running.next, (texts) =>
    texts.length === 0 ? Effect.void : Effect.andThen(take(texts), takeAll)
  )
  const done = Effect.suspend(() => {
    const summary = summaryOf(running.command, count)
    onDone(Exit.succeed(summary))
    return Effect.succeed(summary)
  })
  const whatItCameTo = Effect.suspend((): Effect.Effect<Summary, QueryError> => {
    const recalled = ending.reason()
    if (recalled !== undefined && running.command === "") return Effect.fail(fromConnectionError(recalled))
    if (running.error !== undefined) return Effect.fail(fromServerError(running.error))
    if (running.stage === "unsent") return Effect.fail(notSent())
    if (running.broken !== undefined) return Effect.fail(fromBroken[running.broken]())
    return running.isTransactionOpen
      ? Effect.fail(new QueryError({ reason: new StatementFailed({ problem: leftOpen }) }))
      : Effect.andThen(describe, done)
  })
  // A cancel that came too late changed nothing: what the statement did is committed. Rows that waited for whoever takes
  // them are gone then; of a statement that only reads, nothing is lost that the cancel did not ask for.
  const whatTheServerSaid = Effect.suspend(() => {
    const { columns, command, isTransactionOpen, stage } = running
    if (stage === "sent") return Effect.sync(() => onGivenUp("unknown"))
    if (command === "" || isTransactionOpen) return Effect.void
    if (columns.length === 0 || running.rowCount === count) return Effect.ignore(Effect.andThen(describe, done))
    const mayOnlyRead = onlyReads.has(summaryOf(command, count).command)
    return Effect.sync(() => (mayOnlyRead ? onGivenUp("committed") : onDone(rowsLost)))
  })
  // Known when the server is done with the statement, which is after its rows were refused.
  const asFarAsItWent = (error: QueryError) => {
    const { command, stage } = running
    if (!isRefused && error.reason._tag !== "ResultTooLarge") return error
    return stage === "sent" ? andWritten(error, "unknown") : command === "" ? error : andWritten(error, "committed")
  }
  return Effect.acquireUseRelease(
    send,
    () => Effect.andThen(takeAll, whatItCameTo),
    () => (running.isOver ? Effect.void : end(running, ending))
  ).pipe(
    Effect.mapError(asFarAsItWent),
    Effect.onInterrupt(() => whatTheServerSaid)
  )
}

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

/** Bound, not quoted: what a quoted text means is for the settings of the server to say. */
const setAny = (settings: Readonly<Record<string, string>>): PgWire.Messages => {
  const each = Object.entries(settings).map((setting) =>
    PgFrames.statement("SELECT pg_catalog.set_config($1, $2, false)", setting)
  )
  return { messages: Buffer.concat(each), cycles: each.length }
}

/** What is refused here was chosen by the operator or the app, not by who wrote the statement. */
const refused = (error: PgWire.ExchangeFailed) =>
  error.code === undefined
    ? notSent()
    : unavailable(`A setting of the query was refused: ${error.message}. Correct the settings of the statement.`)

/** How much later than the deadline the server ends a statement by itself, because we are gone. */
const graceMillis = 1000

/** The longest timeout that PostgreSQL takes. */
const longestMillis = 2 ** 31 - 1

/** When the server ends a statement, in milliseconds. */
const timeoutOf = (deadline: Duration.Duration) =>
  Math.min(Math.ceil(Duration.toMillis(deadline)) + graceMillis, longestMillis)

/**
 * What is sent: our settings, which no server refuses, ahead of the statement in the same flight. The reset of the connection
 * undoes them.
 */
const messagesOf = ({ params, sql }: Statement, { deadline, id }: Execution) => {
  // An id has nothing in it that would end a text.
  const name = `SET application_name TO 'holdfast ${id}'`
  return Buffer.concat([
    // Cheaper than a SELECT, which is planned and has rows.
    PgFrames.query(deadline === undefined ? name : `${name};SET statement_timeout TO ${timeoutOf(deadline)}`),
    PgFrames.statement(sql, params.map(PgValues.encodeParameter))
  ])
}

/** What the protocol has no room for. */
const unsendable = ({ params, sql }: Statement): string | undefined =>
  sql.includes("\0")
    ? "The statement holds a zero character, which PostgreSQL does not take. Remove it."
    : params.length > PgFrames.maxParameters
      ? `The statement has ${params.length} parameters, and PostgreSQL takes ${PgFrames.maxParameters}. Pass arrays.`
      : undefined

/** The app's settings are confirmed before the statement is sent. */
const prepare = (wire: PgWire.PgWire, { settings }: Statement) =>
  settings === undefined || Object.keys(settings).length === 0
    ? Effect.void
    : Effect.mapError(wire.exchange(setAny(settings)), refused)

const summaryOf = (tag: string, count: number): Summary => {
  const words = tag.split(" ")
  const affected = Number(words.at(-1))
  return { command: words[0] ?? "", rowCount: words.length > 1 && Number.isInteger(affected) ? affected : count }
}

/** Makes the driver over the pool in context. */
export const make = Effect.gen(function* () {
  const pool = yield* ConnectionPool
  const open = Effect.gen(function* () {
    const { id, kill, reason, services } = yield* Effect.mapError(pool.lease(), fromConnectionError)
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
        Effect.suspend(() => {
          const problem = unsendable(statement)
          if (problem !== undefined) return Effect.fail(new QueryError({ reason: new StatementFailed({ problem }) }))
          const running = new PgStatement.PgStatement(1)
          const send = Effect.sync(() => wire.send(running, messagesOf(statement, execution), lent.value.reset))
          const ending = { cancel: lent.value.pinned.interrupt, kill, reason }
          return Effect.andThen(prepare(wire, statement), execute(running, send, ending, sink, execution))
        })
    } satisfies QueryConnection
  })
  return QueryDriver.of({ open })
})

/** Statements run on connections of the `ConnectionPool` in context. */
export const layer: Layer.Layer<QueryDriver, never, ConnectionPool> = Layer.effect(QueryDriver, make)
