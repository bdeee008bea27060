/**
 * A principal's queries as a caller in the cluster sees them: every call has a time limit, and is sent again where that does no harm.
 *
 * It lives as long as its scope, and so does what became too late and has not ended yet.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import type { Row } from "../../query/QueryDriver.ts"
import { QueriesUnavailable, QueryError } from "../../query/QueryError.ts"
import type { QueryId } from "../../query/QueryId.ts"
import type { QueryRecord } from "../../query/QueryRecord.ts"
import type * as QueryRegistry from "../../query/QueryRegistry.ts"
import type { Page } from "../../query/QueryResults.ts"
import type { Range } from "../../query/internal/QueryPages.ts"
import { eventsOf } from "../../query/internal/QueryRegistryEvents.ts"
import * as QueryState from "../../query/QueryState.ts"
import { type Client, type Undelivered, waitsFor } from "./QueryEntityCalls.ts"

/** How long a caller is patient. */
export interface Options {
  /** For how long one call waits for its answer, beside the time that it waits for the query. Default: 5 seconds. */
  readonly answerWithin?: Duration.Input | undefined
  /**
   * For how long a call is sent again that got no answer. Default: a minute; a cluster finds out after 35 seconds that a runner was
   * killed, where nothing else is set.
   */
  readonly retryFor?: Duration.Input | undefined
}

/** A query to be, as for a registry. Its owner is in another process: cancel the queries of a session when that ends. */
export type Submission = Omit<QueryRegistry.Submission, "owner" | "principal">

type Failed<A> = Effect.Effect<A, QueryError>

/** A principal's queries. Everything fails as a registry does, and with `QueriesUnavailable` where the cluster does not answer. */
export interface Queries {
  /**
   * Takes a query in. Without an idempotency key it is sent once: where the answer is lost, nobody knows whether the query was taken
   * in.
   */
  readonly submit: (submission: Submission) => Failed<QueryRecord>
  readonly status: (id: QueryId) => Failed<QueryRecord>
  /** Waits for the terminal state. */
  readonly await: (id: QueryId) => Failed<QueryRecord>
  /** Cancels and waits for the terminal state. */
  readonly cancel: (id: QueryId) => Failed<QueryRecord>
  /** Cancels what is not over, of one session or of all, and waits for the terminal states. */
  readonly cancelAll: (of?: { readonly session?: string | undefined }) => Failed<ReadonlyArray<QueryRecord>>
  /** The newest first. */
  readonly list: (options?: QueryRegistry.ListOptions) => Failed<QueryRegistry.Listing>
  /** Rows from `offset`, counted from 0. */
  readonly page: (id: QueryId, range: Range) => Failed<Page>
  /** All rows, read as they are pulled, a thousand at a time. */
  readonly rows: (id: QueryId) => Stream.Stream<Row, QueryError>
  /** Every state that the query came to and comes to, from the one after number `after` (default: 0), until the terminal one. */
  readonly events: (
    id: QueryId,
    options?: { readonly after?: number | undefined }
  ) => Stream.Stream<QueryRegistry.Event, QueryError>
}

/** What is not said is left out. */
const given = <A extends object>(all: A) =>
  Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as {
    readonly [K in keyof A]?: Exclude<A[K], undefined>
  }

const millis = (time: Duration.Input | undefined) => (time === undefined ? undefined : Duration.toMillis(time))

const isOver = ({ state }: QueryRecord) => QueryState.isTerminal(state)

/** How often a call is sent that gets an answer at once, and no help. */
const again = Duration.millis(250)

const pageSize = 1000

/** Whether the cluster has not answered, and the registry not either. */
class Unanswered extends Data.TaggedError("Unanswered")<{ readonly problem: string }> {}

/** Limits of calls, which end in the background where the runner does not answer: within the current scope. */
const limitsOf = ({ answerWithin = "5 seconds" }: Options) => {
  const late = (limit: string) => new Unanswered({ problem: `The cluster gave no answer within ${limit}.` })
  const limit = Duration.fromInputUnsafe(answerWithin)
  return Effect.all({
    answers: TimeLimit.make(limit, late),
    waits: TimeLimit.make(Duration.sum(limit, waitsFor), late)
  })
}
type Limits = Effect.Success<ReturnType<typeof limitsOf>>

/** Makes what opens a principal's queries. It lives as long as the current scope. */
export const make = (options: Options = {}) =>
  Effect.map(limitsOf(options), (limits) => (calls: Client) => open(calls, limits, options))

const open = (calls: Client, limits: Limits, { retryFor = "1 minute" }: Options): Queries => {
  /** One try. A runner that is gone answers nothing, and one that stops interrupts what it had begun. */
  const once = <A>(
    call: Effect.Effect<A, QueryError | Undelivered>,
    within: keyof Limits
  ): Effect.Effect<A, QueryError | Unanswered> =>
    limits[within](
      call.pipe(
        Effect.catchIf(
          (error) => error._tag !== "QueryError",
          ({ _tag }) => Effect.fail(new Unanswered({ problem: `The cluster has not delivered the call: ${_tag}.` }))
        ),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.fail(new Unanswered({ problem: "The runner that was to answer has stopped." }))
            : Effect.failCause(cause)
        )
      )
    )
  const unavailable = (problem: string) => Effect.fail(new QueryError({ reason: new QueriesUnavailable({ problem }) }))

  /** As often as it takes, which does no harm. */
  const ask = <A>(call: Effect.Effect<A, QueryError | Undelivered>, within: keyof Limits = "answers"): Failed<A> =>
    once(call, within).pipe(
      Effect.retry({
        schedule: Schedule.upTo(Schedule.spaced(again), { duration: retryFor }),
        while: ({ _tag }) => _tag === "Unanswered"
      }),
      Effect.catchTag("Unanswered", ({ problem }) => unavailable(`${problem} Try again later.`))
    )

  const submit = ({ deadline, idempotencyKey, retention, statement, ...more }: Submission) => {
    const call = calls.Submit({
      ...given({
        ...more,
        idempotencyKey,
        settings: statement.settings,
        deadlineMillis: millis(deadline),
        retentionMillis: millis(retention)
      }),
      sql: statement.sql,
      params: statement.params
    })
    return idempotencyKey !== undefined
      ? ask(call)
      : Effect.catchTag(once(call, "answers"), "Unanswered", ({ problem }) =>
          unavailable(
            `${problem} The query may have been taken in: look at the list. With an idempotency key, a submission is sent again.`
          )
        )
  }

  const status = (id: QueryId) => ask(calls.Status({ id }))
  const wait = (id: QueryId, seen: number) => ask(calls.Wait({ id, seen }), "waits")

  const awaited = (id: QueryId, record: QueryRecord): Failed<QueryRecord> =>
    isOver(record)
      ? Effect.succeed(record)
      : Effect.flatMap(wait(id, record.transitions.length), (record) => awaited(id, record))

  const cancel = (id: QueryId) => Effect.flatMap(ask(calls.Cancel({ id }), "waits"), (record) => awaited(id, record))

  const page = (id: QueryId, range: Range) =>
    Effect.map(ask(calls.Page({ id, ...range })), ({ columns, next, rows }): Page => ({ columns, rows, next }))

  return {
    submit,
    status,
    await: (id) => Effect.flatMap(status(id), (record) => awaited(id, record)),
    cancel,
    cancelAll: (of = {}) =>
      Effect.flatMap(ask(calls.Unfinished(given(of))), (ids) =>
        Effect.forEach(ids, cancel, { concurrency: "unbounded" })
      ),
    list: (options = {}) =>
      Effect.map(ask(calls.List(given(options))), ({ next, queries }): QueryRegistry.Listing => ({ queries, next })),
    page,
    rows: (id) =>
      Stream.paginate(0, (offset) =>
        Effect.map(
          page(id, { offset, limit: pageSize }),
          ({ next, rows }) => [rows, Option.fromUndefinedOr(next)] as const
        )
      ),
    events: (id, { after = 0 } = {}) =>
      Stream.paginate(after, (seen) => Effect.map(wait(id, seen), (record) => eventsOf(record, seen)))
  }
}
