/**
 * Runs statements on connections leased from a `ConnectionPool` over PostgreSQL.
 *
 * The lease lives as long as the scope it was opened in. Interrupting a statement sends a cancel request over a side
 * channel and waits for the server's answer; rows are taken from the server only as fast as the sink takes them.
 *
 * **Details**
 *
 * Values travel as PostgreSQL's text (see `PgWire`) and become JSON by the rules of `PgValues`. The server is asked first as
 * what it reads the parameters, where there are some: that costs a round trip. One statement per call: the extended protocol
 * refuses several, with the server's own message.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Buffer } from "node:buffer"
import { ConnectionPool, type LeaseOptions } from "../connection/ConnectionPool.ts"
import type { Recall } from "../connection/ConnectionSource.ts"
import * as PgAtomicity from "./internal/PgAtomicity.ts"
import * as PgDriver from "./internal/PgDriver.ts"
import * as PgFrames from "./internal/PgFrames.ts"
import * as PgStatement from "./internal/PgStatement.ts"
import * as PgTraceComment from "./internal/PgTraceComment.ts"
import * as PgRows from "./internal/PgRows.ts"
import * as PgQueryErrors from "./internal/PgQueryErrors.ts"
import { PgTypes } from "./internal/PgTypes.ts"
import * as PgWire from "./internal/PgWire.ts"
import * as PgValues from "./internal/PgValues.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import {
  type Execution,
  Principal,
  type QueryConnection,
  QueryDriver,
  type RowSink,
  type Statement,
  type Summary
} from "../query/QueryDriver.ts"
import { andWritten, type QueryError } from "../query/QueryError.ts"

export const capabilities: QueryCapabilities = {
  cancel: "statement",
  streams: true,
  undoes: true,
  settings: true,
  deadline: true,
  columnTypes: true,
  parameterTypes: true,
  notices: true,
  roles: true,
  placeholder: "$1"
}

/**
 * Whether the server is told which trace a statement belongs to. A driver reads it when it is made. Default: `off`.
 *
 * `comment` puts a comment in the form of sqlcommenter (https://google.github.io/sqlcommenter/) ahead of each statement that runs under a
 * span: `/*traceparent='00-…-…-01'*\/`. The records of queries and the positions of errors do not show it; `pg_stat_activity`,
 * `current_query()` and the server's log do. Statements of the driver have no name on the server and no plan that is kept, so the comment
 * defeats none. A cache in front of the server that compares texts finds none of them again.
 */
export const TracePropagation = Context.Reference<"off" | "comment">(
  "holdfast/postgres/PgQueryDriver/TracePropagation",
  {
    defaultValue: () => "off"
  }
)

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

/** What a statement runs with. */
interface Means {
  readonly sql: string
  /** What goes ahead of it: the server counts it, who wrote the statement does not. */
  readonly comment: string
  readonly wire: PgWire.PgWire
  readonly types: PgTypes
  readonly ending: Ending
}

/** Runs the messages of a statement to the end of what the server says. */
const execute = (
  running: PgStatement.PgStatement,
  send: Effect.Effect<void>,
  { comment, ending, sql, types, wire }: Means,
  sink: RowSink,
  { onDone, onGivenUp, onNotice }: Execution
): Effect.Effect<Summary, QueryError> => {
  let isDescribed = false
  let isRefused = false
  let decoders: PgRows.Decoders = []
  let count = 0
  running.onNotice = onNotice
  const refusable = Effect.tapError<QueryError, void, never, never>(() =>
    Effect.sync(() => {
      isRefused = true
    })
  )
  const typeIds = () => running.columns.map(({ typeId }) => typeId)
  const tell = Effect.suspend(() =>
    refusable(
      sink.columns(running.columns.map(({ name, typeId }) => ({ name, type: PgValues.typeName(types.get, typeId) })))
    )
  )
  const describe = Effect.suspend(() => {
    if (isDescribed) return Effect.void
    decoders = PgRows.decodersOf(running.columns)
    return Effect.map(tell, () => {
      isDescribed = true
    })
  })
  // Nothing else can be asked on the connection while the rows come.
  const name = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    types.knows(typeIds(), now) ? Effect.void : Effect.andThen(types.learn(wire, typeIds()), tell)
  )
  const onTaken = (taken: number) => {
    count += taken
  }
  const take = (rows: ReadonlyArray<PgStatement.Arrived>) =>
    Effect.andThen(
      describe,
      // Made anew for the rows that came together: V8 would move the rows of one that lives long to the old generation at once.
      Effect.suspend(() => refusable(PgRows.taking(sink, decoders, onTaken)(rows)))
    )
  const takeAll: Effect.Effect<void, QueryError> = Effect.flatMap(running.next, (texts) =>
    texts.length === 0 ? Effect.void : Effect.andThen(take(texts), takeAll)
  )
  const done = Effect.suspend(() => {
    const summary = summaryOf(running.command, count)
    onDone(Exit.succeed(summary))
    return Effect.succeed(summary)
  })
  const isUndone = (): boolean =>
    !running.isBegun || (PgAtomicity.isUndone(sql) && !(running.isErrorLate && running.error?.isFatal === true))
  const whatItCameTo = Effect.suspend((): Effect.Effect<Summary, QueryError> => {
    const { broken, error, isTransactionOpen, stage } = running
    const recalled = ending.reason()
    if (recalled !== undefined && running.command === "")
      return Effect.fail(PgQueryErrors.fromConnectionError(recalled))
    if (error !== undefined)
      return Effect.fail(PgQueryErrors.fromServerError(error, comment.length, isUndone() ? undefined : "unknown"))
    if (stage === "unsent") return Effect.fail(PgQueryErrors.notSent())
    if (broken !== undefined) return Effect.fail(PgQueryErrors.fromBroken[broken]())
    if (running.isUnreadable && !isTransactionOpen)
      return Effect.fail(PgQueryErrors.failed(PgQueryErrors.notUtf8, "committed"))
    return isTransactionOpen
      ? Effect.fail(PgQueryErrors.failed(PgQueryErrors.leftOpen, isUndone() ? undefined : "unknown"))
      : describe.pipe(Effect.andThen(name), Effect.andThen(done))
  })
  // A cancel that came too late changed nothing: what the statement did is committed. Rows that waited for their reader
  // are gone then; of a statement that only reads, nothing is lost that the cancel did not ask for.
  const whatTheServerSaid = Effect.suspend(() => {
    const { columns, command, isTransactionOpen, stage } = running
    if (stage === "unsent") return Effect.void
    if (stage === "sent") return Effect.sync(() => onGivenUp("unknown"))
    if (command === "" || isTransactionOpen) return isUndone() ? Effect.void : Effect.sync(() => onGivenUp("unknown"))
    if (columns.length === 0 || running.rowCount === count) return Effect.ignore(Effect.andThen(describe, done))
    const mayOnlyRead = onlyReads.has(summaryOf(command, count).command)
    return Effect.sync(() => (mayOnlyRead ? onGivenUp("committed") : onDone(PgQueryErrors.rowsLost)))
  })
  // Known when the server is done with the statement, which is after its rows were refused.
  const asFarAsItWent = (error: QueryError) => {
    const { command, stage } = running
    if (!isRefused && error.reason._tag !== "ResultTooLarge") return error
    if (stage === "sent") return andWritten(error, "unknown")
    return command === "" ? (isUndone() ? error : andWritten(error, "unknown")) : andWritten(error, "committed")
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

/** Has the server prepare a statement, and tells as which types it reads the parameters. Nothing is executed. */
const describe = (running: PgStatement.PgStatement, send: Effect.Effect<void>, { comment, ending }: Means) =>
  Effect.acquireUseRelease(
    send,
    () => running.over,
    () => (running.isOver ? Effect.void : end(running, ending))
  ).pipe(
    Effect.andThen(
      Effect.suspend(() => {
        const { broken, error, parameterTypes } = running
        if (error !== undefined) return Effect.fail(PgQueryErrors.fromServerError(error, comment.length))
        return broken === undefined ? Effect.succeed(parameterTypes) : Effect.fail(PgQueryErrors.notSent())
      })
    )
  )

/** As the server calls them when they are done. */
const onlyReads: ReadonlySet<string> = new Set(["SELECT", "SHOW", "FETCH", "EXPLAIN"])

/** Bound, not quoted: what a quoted text means is for the settings of the server to say. */
const setAny = (settings: Readonly<Record<string, string>>): PgWire.Messages => {
  const each = Object.entries(settings).map((setting) =>
    PgFrames.statement("SELECT pg_catalog.set_config($1, $2, false)", setting)
  )
  return { messages: Buffer.concat(each), cycles: each.length }
}

/** How much later than the deadline the server ends a statement by itself, because we are gone. */
const graceMillis = 1000

/** The longest timeout that PostgreSQL takes. */
const longestMillis = 2 ** 31 - 1

/** When the server ends a statement, in milliseconds. */
const timeoutOf = (deadline: Duration.Duration) =>
  Math.min(Math.ceil(Duration.toMillis(deadline)) + graceMillis, longestMillis)

/** Our settings, which no server refuses, ahead of the statement in the same flight. The reset of the connection undoes them. */
const ahead = ({ deadline, id }: Execution) => {
  // An id has nothing in it that would end a text.
  const name = `SET application_name TO 'holdfast ${id}'`
  // Cheaper than a SELECT, which is planned and has rows.
  const timeout = deadline === undefined ? "" : `;SET statement_timeout TO ${timeoutOf(deadline)}`
  // Whatever the role or the database has it set to: the digits of a number are all there.
  return PgFrames.query(`${name};SET extra_float_digits TO 1${timeout}`)
}

/** What would not arrive as it is, or what the protocol has no room for. */
const unsendable = ({ params, settings, sql }: Statement): string | undefined => {
  const inSql = PgValues.unsendable(sql)
  if (inSql !== undefined) return `The statement holds ${inSql}. Remove it.`
  const inSettings = Object.entries(settings ?? {})
    .flat()
    .map(PgValues.unsendable)
    .find((problem) => problem !== undefined)
  if (inSettings !== undefined) return `A setting of the statement holds ${inSettings}. Remove it.`
  return params.length > PgFrames.maxParameters
    ? `The statement has ${params.length} parameters, and PostgreSQL takes ${PgFrames.maxParameters}. Pass arrays.`
    : undefined
}

/** The texts of parameters for the types that the server asks for. */
const encode = ({ params }: Statement, typeIds: ReadonlyArray<number>, types: PgTypes) =>
  Effect.suspend(() => {
    const texts: Array<string | null> = []
    for (const param of params) {
      const at = texts.length
      try {
        texts.push(PgValues.encode(param, typeIds[at] ?? 0, types.get))
      } catch (error) {
        if (!(error instanceof PgValues.Refused)) throw error
        return Effect.fail(PgQueryErrors.failed(`The parameter $${at + 1} ${error.message}.`))
      }
    }
    return Effect.succeed(texts)
  })

/** The app's settings are confirmed before the statement is sent. */
const prepare = (wire: PgWire.PgWire, { settings }: Statement) =>
  settings === undefined || Object.keys(settings).length === 0
    ? Effect.void
    : Effect.mapError(wire.exchange(setAny(settings)), PgQueryErrors.refused)

const summaryOf = (tag: string, count: number): Summary => {
  const words = tag.split(" ")
  const affected = Number(words.at(-1))
  return { command: words[0] ?? "", rowCount: words.length > 1 && Number.isInteger(affected) ? affected : count }
}

/** How the pool is asked for a connection for a principal. */
type LeaseFor = (principal: string | undefined) => Effect.Effect<LeaseOptions, QueryError>

const nobody = PgQueryErrors.unavailable(
  "The statement runs for no principal, and each one has a role of its own. Submit it to a QueryRegistry."
)

const makeFor = Effect.fnUntraced(function* (leaseFor: LeaseFor) {
  const pool = yield* ConnectionPool
  const commentOf = (yield* TracePropagation) === "comment" ? PgTraceComment.current : Effect.succeed("")
  const types = new PgTypes()
  const open = Effect.gen(function* () {
    const options = yield* leaseFor(yield* Principal)
    const lease = pool.lease(options)
    const { id, kill, reason, services } = yield* Effect.mapError(lease, PgQueryErrors.fromConnectionError)
    const lent = Context.getOption(services, PgDriver.Pinned)
    if (Option.isNone(lent)) {
      return yield* PgQueryErrors.unavailable("The pool is not one of PostgreSQL connections. Use PgConnectionSource.")
    }
    const wire = PgWire.attach(lent.value.connection)
    if (wire === undefined) {
      return yield* PgQueryErrors.unavailable(
        "This version of @effect/sql-pg is not supported. Install @effect/sql-pg ~4.0.5."
      )
    }
    const ending = { cancel: lent.value.pinned.interrupt, kill, reason }
    const { reset } = lent.value
    const sent = (running: PgStatement.PgStatement, messages: Uint8Array, behind?: PgWire.Messages) =>
      Effect.sync(() => wire.send(running, messages, behind))
    const run = (statement: Statement, comment: string, sink: RowSink, execution: Execution) => {
      const means = { sql: statement.sql, comment, wire, types, ending }
      const text = comment + statement.sql
      if (statement.params.every((param) => param === null)) {
        const running = new PgStatement.PgStatement(1)
        const whole = PgFrames.statement(text, statement.params as ReadonlyArray<null>)
        const send = sent(running, Buffer.concat([ahead(execution), whole]), reset)
        return execute(running, send, means, sink, execution)
      }
      const described = new PgStatement.PgStatement(1)
      const ask = sent(described, Buffer.concat([ahead(execution), PgFrames.describe(text)]))
      return describe(described, ask, means).pipe(
        Effect.tap((typeIds) => types.learn(wire, [...typeIds, ...described.columns.map(({ typeId }) => typeId)])),
        Effect.flatMap((typeIds) => encode(statement, typeIds, types)),
        Effect.flatMap((params) => {
          const running = new PgStatement.PgStatement()
          return execute(running, sent(running, PgFrames.bound(params), reset), means, sink, execution)
        })
      )
    }
    return {
      id,
      execute: (statement, sink, execution) =>
        Effect.suspend(() => {
          const problem = unsendable(statement)
          return problem === undefined
            ? Effect.andThen(
                prepare(wire, statement),
                Effect.flatMap(commentOf, (comment) => run(statement, comment, sink, execution))
              )
            : Effect.fail(PgQueryErrors.failed(problem))
        })
    } satisfies QueryConnection
  })
  return QueryDriver.of({ open, capabilities })
})

/** Makes the driver over the pool in context. */
export const make = makeFor((key) => Effect.succeed({ key }))

/** As {@link make}, for {@link layerPerPrincipal}. */
export const makePerPrincipal = makeFor((principal) =>
  principal === undefined ? Effect.fail(nobody) : Effect.succeed({ key: principal, role: principal })
)

/** Statements run on connections of the `ConnectionPool` in context, which are fair between principals. */
export const layer: Layer.Layer<QueryDriver, never, ConnectionPool> = Layer.effect(QueryDriver, make)

/**
 * As {@link layer}, where each principal's statements run on connections that are logged in as a role of that principal's own: the
 * pool is asked for the role that is named like the principal, and `login` of `PgConnectionSource` says who that is on the
 * server. The database itself then keeps apart what different principals run. A statement without a principal is refused.
 */
export const layerPerPrincipal: Layer.Layer<QueryDriver, never, ConnectionPool> = Layer.effect(
  QueryDriver,
  makePerPrincipal
)
