/**
 * The statements of a `SnowflakeServer`: run on PostgreSQL, known by handle and by request id, kept until their handles expire.
 *
 * A statement runs in a fiber of the server's. It is over when PostgreSQL has said so, and not before.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Cause from "effect/Cause"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { QueryDriver, Summary } from "../../query/QueryDriver.ts"
import type { QueryError } from "../../query/QueryError.ts"
import * as QueryId from "../../query/QueryId.ts"
import * as SnowflakeServerRows from "./SnowflakeServerRows.ts"
import * as SnowflakeServerSql from "./SnowflakeServerSql.ts"

/** A statement as it was sent. */
export interface Submission {
  readonly statement: string
  readonly timeout?: number | undefined
  readonly bindings?: Readonly<Record<string, SnowflakeServerSql.Binding>> | undefined
  readonly parameters?: Readonly<Record<string, unknown>> | undefined
}

/** How often each kind of row was written. */
export interface Stats {
  readonly numRowsInserted: number
  readonly numRowsUpdated: number
  readonly numRowsDeleted: number
}

export type Outcome =
  | { readonly _tag: "Succeeded"; readonly rows: SnowflakeServerRows.Rows; readonly stats: Stats | undefined }
  | { readonly _tag: "Failed"; readonly failure: SnowflakeServerSql.Failure }

/** A statement, until its handle expires. */
export interface Statement {
  readonly handle: string
  readonly requestId: string
  readonly sql: string
  readonly queryTag: string
  readonly createdOn: number
  outcome: Outcome | undefined
  /** Somebody wants it over. */
  isCanceled: boolean
  readonly over: Deferred.Deferred<void>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
}

/** Session parameters that exist, and what PostgreSQL calls those that it has, too. */
const parameters: Readonly<Record<string, string | undefined>> = {
  timezone: "TimeZone",
  query_tag: undefined,
  multi_statement_count: undefined,
  statement_timeout_in_seconds: undefined,
  rows_per_resultset: undefined,
  week_start: undefined,
  autocommit: undefined,
  binary_output_format: undefined,
  date_output_format: undefined,
  time_output_format: undefined,
  timestamp_output_format: undefined,
  timestamp_ltz_output_format: undefined,
  timestamp_ntz_output_format: undefined,
  timestamp_tz_output_format: undefined
}

interface Prepared {
  readonly settings: Readonly<Record<string, string>>
}

const prepare = (given: Readonly<Record<string, unknown>>): Prepared | SnowflakeServerSql.Failure => {
  const settings: Record<string, string> = {}
  for (const [name, value] of Object.entries(given)) {
    const lower = name.toLowerCase()
    if (!Object.hasOwn(parameters, lower)) {
      const message = `SQL compilation error: invalid property '${name}' for 'SESSION'`
      return { code: "001420", sqlState: "42601", message }
    }
    const known = parameters[lower]
    if (known !== undefined) settings[known] = String(value)
  }
  return { settings }
}

const counted: Readonly<Record<string, readonly [column: string, field: keyof Stats]>> = {
  INSERT: ["number of rows inserted", "numRowsInserted"],
  UPDATE: ["number of rows updated", "numRowsUpdated"],
  DELETE: ["number of rows deleted", "numRowsDeleted"],
  MERGE: ["number of rows inserted", "numRowsInserted"]
}

const outcomeOf = (rows: SnowflakeServerRows.Rows, { command, rowCount }: Summary): Outcome => {
  const count = counted[command]
  const none = { numRowsInserted: 0, numRowsUpdated: 0, numRowsDeleted: 0 }
  const stats = count === undefined ? undefined : { ...none, [count[1]]: rowCount }
  if (rows.rowType.length > 0) return { _tag: "Succeeded", rows, stats }
  const only =
    count === undefined
      ? SnowflakeServerRows.single("status", "TEXT", "Statement executed successfully.")
      : SnowflakeServerRows.single(count[0], "FIXED", String(rowCount))
  return { _tag: "Succeeded", rows: only, stats }
}

const failedOf = (sql: string, { reason }: QueryError): Outcome => ({
  _tag: "Failed",
  failure:
    reason._tag === "StatementFailed"
      ? reason.code === "57014"
        ? SnowflakeServerSql.timedOut
        : SnowflakeServerSql.failureOf(sql, reason)
      : { code: "300002", sqlState: "XX000", message: reason.message }
})

/** The longest that a statement may run, in seconds. */
const longest = 604_800

export interface Options {
  readonly driver: QueryDriver["Service"]
  readonly scope: Scope.Scope
  readonly partitionBytes: number
  readonly handleMillis: number
}

export class Statements {
  readonly byHandle = new Map<string, Statement>()
  readonly byRequestId = new Map<string, Statement>()
  /** How often each text was executed. */
  readonly executions = new Map<string, number>()
  private readonly options: Options

  constructor(options: Options) {
    this.options = options
  }

  /** Statements that are not over. */
  get running(): number {
    let count = 0
    for (const { outcome } of this.byHandle.values()) if (outcome === undefined) count++
    return count
  }

  /** One that is known by its handle, unless that expired. */
  find(handle: string): Statement | undefined {
    const statement = this.byHandle.get(handle)
    const isExpired = statement?.outcome !== undefined && Date.now() - statement.createdOn >= this.options.handleMillis
    if (isExpired) this.forget(handle)
    return isExpired ? undefined : statement
  }

  forget(handle: string): void {
    const statement = this.byHandle.get(handle)
    if (statement === undefined) return
    this.byHandle.delete(handle)
    this.byRequestId.delete(statement.requestId)
  }

  /** Takes a statement in. One whose request id was there before runs no second time. */
  submit(requestId: string, submission: Submission): Effect.Effect<Statement> {
    return Effect.suspend(() => {
      const known = this.byRequestId.get(requestId)
      if (known !== undefined) return Effect.succeed(known)
      const statement: Statement = {
        handle: randomUUID(),
        requestId,
        sql: submission.statement,
        queryTag: String(submission.parameters?.["query_tag"] ?? ""),
        createdOn: Date.now(),
        outcome: undefined,
        isCanceled: false,
        over: Deferred.makeUnsafe(),
        fiber: undefined
      }
      this.byHandle.set(statement.handle, statement)
      this.byRequestId.set(requestId, statement)
      return Effect.map(Effect.forkIn(this.run(statement, submission), this.options.scope), (fiber) => {
        statement.fiber = fiber
        return statement
      })
    })
  }

  /** Ends a statement that runs. Tells whether it was ended by this, or had its own end first. */
  cancel(statement: Statement): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      const { fiber, outcome } = statement
      if (outcome !== undefined || fiber === undefined) return Effect.succeed(false)
      statement.isCanceled = true
      fiber.interruptUnsafe()
      return Effect.map(Deferred.await(statement.over), () => {
        const { outcome } = statement
        return outcome?._tag === "Failed" && outcome.failure === SnowflakeServerSql.canceled
      })
    })
  }

  private run(statement: Statement, submission: Submission): Effect.Effect<void> {
    let said: Outcome | undefined
    return Effect.onExit(
      Effect.suspend(() => this.execute(submission, (outcome) => (said ??= outcome))),
      (exit) => {
        const failed = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : Option.none()
        statement.outcome = Option.isSome(failed)
          ? failedOf(statement.sql, failed.value)
          : Exit.isSuccess(exit)
            ? exit.value
            : (said ?? { _tag: "Failed", failure: SnowflakeServerSql.canceled })
        return Deferred.succeed(statement.over, undefined)
      }
    ).pipe(Effect.ignore)
  }

  private execute(
    { bindings = {}, parameters = {}, statement: sql, timeout = 0 }: Submission,
    onDone: (outcome: Outcome) => void
  ): Effect.Effect<Outcome, QueryError> {
    const prepared = prepare(parameters)
    if ("code" in prepared) return Effect.succeed({ _tag: "Failed", failure: prepared })
    const other = SnowflakeServerSql.canceledIn(sql)
    if (other !== undefined) {
      const found = this.byHandle.get(other)
      const ended = found === undefined ? Effect.succeed(false) : this.cancel(found)
      return Effect.map(ended, (isEnded) => ({
        _tag: "Succeeded",
        rows: SnowflakeServerRows.single("SYSTEM$CANCEL_QUERY", "TEXT", isEnded ? "query terminated." : "not running."),
        stats: undefined
      }))
    }
    const translated = SnowflakeServerSql.toPostgres(sql, bindings)
    if (typeof translated === "string") {
      const failure = { code: "002049", sqlState: "42601", message: translated }
      return Effect.succeed({ _tag: "Failed", failure })
    }
    this.executions.set(sql, (this.executions.get(sql) ?? 0) + 1)
    const { rows, sink } = SnowflakeServerRows.collect(this.options.partitionBytes)
    const seconds = timeout === 0 ? longest : Math.min(timeout, longest)
    const execution = {
      id: QueryId.make(),
      // PostgreSQL is given a second more than this.
      deadline: Duration.seconds(Math.max(seconds - 1, 0.001)),
      onDone: (exit: Exit.Exit<Summary, QueryError>) => {
        // For the case that it took effect although it is being cancelled; its rows, if it had any, are lost then.
        const summary = Exit.isSuccess(exit) ? exit.value : { command: "", rowCount: 0 }
        if (!reads.has(summary.command)) onDone(outcomeOf({ rowType: [], partitions: [], count: 0 }, summary))
      },
      onGivenUp: () => undefined
    }
    return Effect.scoped(
      Effect.flatMap(this.options.driver.open, (connection) =>
        Effect.flatMap(connection.execute({ ...translated, settings: prepared.settings }, sink, execution), (summary) =>
          Effect.map(Effect.uninterruptible(rows), (rows) => outcomeOf(rows, summary))
        )
      )
    )
  }
}

const reads: ReadonlySet<string> = new Set(["SELECT", "SHOW", "FETCH", "EXPLAIN", "VALUES"])
