/**
 * Queries addressed by id, which outlive the call that submitted them.
 *
 * A query runs until it is done, is cancelled, its owner's lifetime ends or the registry closes. Its record and rows stay
 * readable to the principal until the retention is over, also when the session that submitted it is gone. Closing the
 * registry refuses new queries, waits `drain` for the running ones, cancels the rest, and returns when every connection
 * is back and every record gone.
 *
 * ```
 * registry ──┬── record (rows) ········ until its retention is over
 *            └── query ── connection ── statement
 * session ───────┘ ends the query, not the record
 * ```
 *
 * **Details**
 *
 * At most `maxRunning` queries run, taken round robin from the principals that have some waiting; when `maxWaiting` wait,
 * one more is rejected at once. A terminal state becomes visible after the connection was released.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as FairSemaphore from "../FairSemaphore.ts"
import type * as Lifetime from "../Lifetime.ts"
import * as Query from "./Query.ts"
import type { QueryDriver } from "./QueryDriver.ts"
import { type Statement } from "./QueryDriver.ts"
import {
  QueriesUnavailable,
  QueryError,
  QueryNotFound,
  QueryNotSucceeded,
  QueryRejected,
  StatementFailed
} from "./QueryError.ts"
import * as QueryId from "./QueryId.ts"
import type { QueryRecord } from "./QueryRecord.ts"
import { type Page, type QueryResult, QueryResults } from "./QueryResults.ts"
import * as QueryState from "./QueryState.ts"

/** A query to be. */
export interface Submission {
  readonly statement: Statement
  /** Who may see it, cancel it and read it; fairness is between principals. */
  readonly principal: string
  /** Ends the query when it ends: the session that submitted it. */
  readonly owner?: Lifetime.Lifetime | undefined
  /** From now until the outcome, waiting included. Default: none. */
  readonly deadline?: Duration.Input | undefined
}

/** Limits and times; every one is finite. */
export interface Options {
  /** Default: 10. Give the pool as many connections. */
  readonly maxRunning?: number | undefined
  /** Default: 1,000. */
  readonly maxWaiting?: number | undefined
  /** How long a record and its rows stay after the end. Default: 15 minutes. */
  readonly retention?: Duration.Input | undefined
  /** How long closing waits for running queries before it cancels them. Default: 2 seconds. */
  readonly drain?: Duration.Input | undefined
}

type Failed<A> = Effect.Effect<A, QueryError>

export class QueryRegistry extends Context.Service<
  QueryRegistry,
  {
    readonly submit: (submission: Submission) => Failed<QueryRecord>
    readonly status: (principal: string, id: QueryId.QueryId) => Failed<QueryRecord>
    /** Waits for the terminal state. */
    readonly await: (principal: string, id: QueryId.QueryId) => Failed<QueryRecord>
    /** Cancels and waits for the terminal state. A query that is over stays as it is. */
    readonly cancel: (principal: string, id: QueryId.QueryId) => Failed<QueryRecord>
    /** Rows from `offset`, counted from 0. */
    readonly page: (
      principal: string,
      id: QueryId.QueryId,
      options: { readonly offset: number; readonly limit: number }
    ) => Failed<Page>
    /** The principal's queries, the newest first. */
    readonly list: (principal: string) => Effect.Effect<ReadonlyArray<QueryRecord>>
  }
>()("holdfast/query/QueryRegistry") {}

interface Entry {
  record: QueryRecord
  readonly scope: Scope.Closeable
  readonly result: QueryResult
  readonly over: Deferred.Deferred<QueryRecord>
  lifetime: Lifetime.Lifetime | undefined
}

/** More submissions than can ever be under way at once: closing waits until it has all of these. */
const gatePermits = 1_000_000

const fail = (reason: QueryError["reason"]) => Effect.fail(new QueryError({ reason }))

/** A defect of a driver must not leave a query without an outcome. */
const reasonOf = (cause: Cause.Cause<QueryError>): QueryError["reason"] => {
  const error = Cause.findErrorOption(cause)
  return error._tag === "Some"
    ? error.value.reason
    : new StatementFailed({ problem: "The query failed for an internal reason, which the log tells" })
}

/** Makes a registry that closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const maxRunning = options.maxRunning ?? 10
  const maxWaiting = options.maxWaiting ?? 1000
  const retention = Duration.fromInputUnsafe(options.retention ?? Duration.minutes(15))
  const drain = Duration.fromInputUnsafe(options.drain ?? Duration.seconds(2))
  const context = yield* Effect.context<QueryDriver>()
  const results = yield* QueryResults
  const clock = yield* Clock.Clock
  const admission = yield* FairSemaphore.make(maxRunning)
  const entries = new Map<QueryId.QueryId, Entry>()
  // Made before the finalizer below, so that it closes after the drain: queries without an owner live in it.
  const running = yield* Scope.fork(yield* Effect.scope, "parallel")
  const gate = Semaphore.makeUnsafe(gatePermits)
  let waiting = 0
  let closing = false

  const now = () => DateTime.makeUnsafe(clock.currentTimeMillisUnsafe())

  // The only place that changes a record.
  const step = (entry: Entry, state: QueryState.QueryState, change: Partial<QueryRecord> = {}): void => {
    const from = entry.record.state
    if (!QueryState.isStep(from, state)) throw new Error(`A query cannot go from ${from} to ${state}`)
    if (from === "Queued") waiting--
    entry.record = { ...entry.record, ...change, state }
  }

  const settle = (entry: Entry, outcome: Query.Outcome) =>
    Effect.gen(function* () {
      const endedAt = now()
      const times = { endedAt, expiresAt: DateTime.addDuration(endedAt, retention) }
      if (Exit.isSuccess(outcome)) {
        step(entry, "Succeeded", { ...times, rowCount: outcome.value.rowCount })
      } else {
        const error = reasonOf(outcome.cause)
        const canceled = error._tag === "QueryCanceled" || error._tag === "SessionEnded"
        step(entry, canceled ? "Canceled" : "Failed", { ...times, error })
        if (Cause.hasDies(outcome.cause)) yield* Effect.logError(`Query ${entry.record.id} failed`, outcome.cause)
        // Rows that nobody may read need no room.
        yield* Scope.close(entry.scope, Exit.void)
      }
    }).pipe(Effect.ensuring(Effect.suspend(() => Deferred.succeed(entry.over, entry.record))))

  const submit = Effect.fn("QueryRegistry.submit")(
    function* (submission: Submission) {
      if (closing)
        return yield* fail(new QueriesUnavailable({ problem: "The service is shutting down. Try again later." }))
      if (waiting >= maxWaiting) return yield* fail(new QueryRejected({ waiting, retryAfterSeconds: 1 }))
      const { deadline, owner, principal, statement } = submission
      const recordScope = Scope.makeUnsafe()
      const id = QueryId.make()
      const result = yield* Scope.provide(results.open(id), recordScope)
      const entry: Entry = {
        record: {
          id,
          principal,
          sql: statement.sql,
          state: "Queued",
          submittedAt: now(),
          startedAt: null,
          endedAt: null,
          expiresAt: null,
          rowCount: null,
          error: null
        },
        scope: recordScope,
        result,
        over: Deferred.makeUnsafe(),
        lifetime: undefined
      }
      waiting++
      entry.lifetime = yield* Query.start({
        id: entry.record.id,
        statement,
        sink: result.sink,
        owner,
        deadline,
        admit: admission.withPermit(principal),
        onState: (state) => step(entry, state, state === "Running" ? { startedAt: now() } : {}),
        onOutcome: (outcome) => settle(entry, outcome)
      }).pipe(Effect.provideContext(context), Effect.provideService(Scope.Scope, running))
      entries.set(entry.record.id, entry)
      return entry.record
    },
    gate.withPermit,
    Effect.uninterruptible
  )

  const find = (principal: string, id: QueryId.QueryId): Failed<Entry> =>
    Effect.suspend(() => {
      const entry = entries.get(id)
      return entry?.record.principal === principal ? Effect.succeed(entry) : fail(new QueryNotFound({}))
    })

  const outcome = ({ lifetime, over }: Entry) => Effect.tap(Deferred.await(over), () => lifetime?.ended ?? Effect.void)

  const forget = (entry: Entry) =>
    Effect.suspend(() => {
      if (QueryState.isTerminal(entry.record.state)) step(entry, "Expired")
      entries.delete(entry.record.id)
      return Scope.close(entry.scope, Exit.void)
    })

  const prune = Effect.suspend(() => {
    const time = now()
    return Effect.forEach(
      Array.from(entries.values()).filter(
        ({ record }) => record.expiresAt !== null && DateTime.isLessThanOrEqualTo(record.expiresAt, time)
      ),
      forget,
      { discard: true }
    )
  })

  const all = <A>(f: (entry: Entry) => Effect.Effect<A>) =>
    Effect.forEach(Array.from(entries.values()), f, { concurrency: "unbounded", discard: true })

  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      closing = true
      // Whoever was let in before is counted among the running below.
      yield* gate.withPermits(gatePermits)(Effect.void)
      yield* Effect.timeoutOption(
        all(({ over }) => Deferred.await(over)),
        drain
      )
      yield* all(({ lifetime }) => lifetime?.end() ?? Effect.void)
      yield* all(forget)
    })
  )
  yield* Effect.forkScoped(Effect.repeat(prune, Schedule.spaced(Duration.seconds(1))))

  return QueryRegistry.of({
    submit,
    status: (principal, id) => Effect.map(find(principal, id), ({ record }) => record),
    await: (principal, id) => Effect.flatMap(find(principal, id), (entry) => outcome(entry)),
    cancel: (principal, id) =>
      Effect.flatMap(find(principal, id), (entry) =>
        Effect.andThen(entry.lifetime?.end() ?? Effect.void, outcome(entry))
      ),
    page: (principal, id, { limit, offset }) =>
      Effect.flatMap(find(principal, id), ({ record, result }) =>
        record.state === "Succeeded" ? result.page(offset, limit) : fail(new QueryNotSucceeded({ state: record.state }))
      ),
    list: (principal) =>
      Effect.sync(() =>
        Array.from(entries.values(), ({ record }) => record)
          .filter((record) => record.principal === principal)
          .toReversed()
      )
  })
})

/** A registry over the driver and the result store in context. */
export const layer = (options?: Options): Layer.Layer<QueryRegistry, never, QueryDriver | QueryResults> =>
  Layer.effect(QueryRegistry, make(options))
