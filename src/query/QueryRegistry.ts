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
 * At most `maxRunning` queries run, of each principal at most `maxRunningPerPrincipal`. The next one is of the principal with
 * the fewest, among these round robin, and `reservedRunning` places are for principals who have nothing running. When
 * `maxWaiting` wait, or `maxWaitingPerPrincipal` of one, one more is rejected at once. Every query has a deadline, so nobody
 * holds a place for ever. A terminal state becomes visible after the connection was released.
 *
 * A registry knows the queries of its own process. What is asked about another principal's query is answered as if there
 * were none.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Stream from "effect/Stream"
import * as Deadlines from "../lifetime/Deadlines.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import type * as Lifetime from "../lifetime/Lifetime.ts"
import * as EntriesClosing from "../lifetime/internal/EntriesClosing.ts"
import { inParallel } from "../lifetime/internal/Entry.ts"
import { keptReason } from "../lifetime/internal/KeptText.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as Query from "./Query.ts"
import * as QueryAdmission from "./internal/QueryAdmission.ts"
import { QueryDriver, type Row, type Statement } from "./QueryDriver.ts"
import { EngineUnknown, QueriesUnavailable, QueryError, QueryNotFound, StatementFailed } from "./QueryError.ts"
import * as QueryId from "./QueryId.ts"
import * as QueryIdempotency from "./internal/QueryIdempotency.ts"
import * as QueryMetrics from "./internal/QueryMetrics.ts"
import type * as QueryRecord from "./QueryRecord.ts"
import { Entries, type Listing, type ListOptions } from "./internal/QueryRegistryEntries.ts"
import type { Entry } from "./internal/QueryRegistryEntry.ts"
import type { Event } from "./internal/QueryRegistryEvents.ts"
import * as QueryRegistryReading from "./internal/QueryRegistryReading.ts"
import { type Page, type PageText, QueryResults } from "./QueryResults.ts"
import type { Range } from "./internal/QueryPages.ts"
import * as QuerySizes from "./internal/QuerySizes.ts"
import type { QueryState } from "./QueryState.ts"

export type { Event, Listing, ListOptions }

/** A query to be. */
export interface Submission {
  readonly statement: Statement
  /** The name of the engine to run it on. Default: the registry's first. */
  readonly engine?: string | undefined
  /** Who may see it, cancel it and read it; fairness, limits and idempotency keys are between or within principals. */
  readonly principal: string
  /** Ends the query when it ends: the session that submitted it. */
  readonly owner?: Lifetime.Lifetime | undefined
  /** The public id of that session, for {@link QueryRegistry} `cancelAll`. */
  readonly session?: string | undefined
  /** From now until the outcome, waiting included; at most the registry's `maxDeadline`. Default: the registry's. */
  readonly deadline?: Duration.Input | undefined
  /** How long record and rows stay after the end. Default: the registry's. */
  readonly retention?: Duration.Input | undefined
  /**
   * Makes submitting it again harmless: within the registry's window the same principal gets the same query for the same key,
   * statement, parameters, deadline and engine, in state `Expired` after its retention; with another statement it is an
   * `IdempotencyConflict`. A rejected submission uses up no key. Default: every submission is a new query.
   */
  readonly idempotencyKey?: string | undefined
}

/** Limits and times; every one is finite. */
export interface Options extends QueryAdmission.Options {
  /** Of a submission that has none: from the submission until the outcome, waiting included. Default: 1 hour, or `maxDeadline`. */
  readonly deadline?: Duration.Input | undefined
  /** A longer deadline of a submission is cut to this. Default: 1 day. */
  readonly maxDeadline?: Duration.Input | undefined
  /** How long a record and its rows stay after the end. Default: 15 minutes. */
  readonly retention?: Duration.Input | undefined
  /**
   * Records of queries that are over, each with its rows; one more, and the oldest is treated as past its retention. Default:
   * 10,000.
   */
  readonly maxKept?: number | undefined
  /** Of one principal. Default: 1,000. */
  readonly maxKeptPerPrincipal?: number | undefined
  /**
   * Characters that the texts of all these records may have together, a quarter of them those of one principal; with more, the
   * oldest go, too. Statements count, errors, notices and columns. Default: 64 Mi.
   */
  readonly maxKeptText?: number | undefined
  /** How long an idempotency key is remembered. Default: 24 hours. */
  readonly idempotencyWindow?: Duration.Input | undefined
  /** Keys remembered of all principals; a submission with one more is rejected. Default: 100,000. */
  readonly maxKeys?: number | undefined
  /** Keys remembered of one principal; a submission with one more is rejected. Default: 10,000. */
  readonly maxKeysPerPrincipal?: number | undefined
  /** How long closing waits for running queries before it cancels them. Default: half a second, in which short ones end. */
  readonly drain?: Duration.Input | undefined
  /**
   * How long closing takes at most, `drain` included; a fifth of what that leaves is for freeing rows. What does not end by
   * then, because the driver or the result store is stuck, is left behind and stands in the ledger as `stalled`. Default: 5
   * seconds.
   */
  readonly closeTimeout?: Duration.Input | undefined
}

/** What a registry runs queries on, and how many at a time: each engine has places and a queue of its own. */
export interface Engine {
  readonly driver: QueryDriver["Service"]
  /** Default: the registry's. */
  readonly limits?: QueryAdmission.Options | undefined
}

/** The name of the one engine of a registry that is made over the `QueryDriver` in context. */
export const defaultEngine = "default"

type Failed<A> = Effect.Effect<A, QueryError>

export class QueryRegistry extends Context.Service<
  QueryRegistry,
  {
    /** Takes a query in, or fails at once. The query goes on when the caller is interrupted. */
    readonly submit: (submission: Submission) => Failed<QueryRecord.QueryRecord>
    readonly status: (principal: string, id: QueryId.QueryId) => Failed<QueryRecord.QueryRecord>
    /** Waits for the terminal state. */
    readonly await: (principal: string, id: QueryId.QueryId) => Failed<QueryRecord.QueryRecord>
    /** Cancels and waits for the terminal state, which is the server's to say. A query that is over stays as it is. */
    readonly cancel: (principal: string, id: QueryId.QueryId) => Failed<QueryRecord.QueryRecord>
    /** Cancels what is not over of a principal's or a session's queries, and waits for the terminal states. */
    readonly cancelAll: (
      of: { readonly principal: string } | { readonly session: string }
    ) => Effect.Effect<ReadonlyArray<QueryRecord.QueryRecord>>
    /** Rows from `offset`, counted from 0. */
    readonly page: (principal: string, id: QueryId.QueryId, options: Range) => Failed<Page>
    /** The same as text, for a reader that sends it on as it is: nothing is decoded, and it is read as it is pulled. */
    readonly pageText: (principal: string, id: QueryId.QueryId, options: Range) => Failed<PageText>
    /** All rows, read as they are pulled, a thousand at a time. Fails when the retention is over before they are read. */
    readonly rows: (principal: string, id: QueryId.QueryId) => Stream.Stream<Row, QueryError>
    /**
     * Every state that the query came to and comes to, from the one after number `after` (default: 0), until the terminal one.
     * A slow reader holds up nobody and loses none, and nothing is buffered for it.
     */
    readonly events: (
      principal: string,
      id: QueryId.QueryId,
      options?: { readonly after?: number | undefined }
    ) => Stream.Stream<Event, QueryError>
    /** The principal's queries, the newest first. */
    readonly list: (principal: string, options?: ListOptions) => Effect.Effect<Listing>
    /** Removes what is past its retention, as the registry does by itself every second. */
    readonly prune: Effect.Effect<void>
  }
>()("holdfast/query/QueryRegistry") {}

const fail = (reason: QueryError["reason"]) => Effect.fail(new QueryError({ reason }))

const shuttingDown = new QueriesUnavailable({ problem: "The service is shutting down. Try again later." })

/** A defect of a driver must not leave a query without an outcome. */
const reasonOf = (cause: Cause.Cause<QueryError>): QueryError["reason"] => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error)
    ? error.value.reason
    : new StatementFailed({ problem: "The query failed for an internal reason, which the log tells" })
}

/** Makes a registry over several engines, by name; it closes with the current scope. The first engine is the default. */
export const makeEngines = Effect.fnUntraced(function* (
  engines: ReadonlyMap<string, Engine>,
  options: Options = {}
): Effect.fn.Return<QueryRegistry["Service"], never, QueryResults | Scope.Scope> {
  const retention = Duration.fromInputUnsafe(options.retention ?? Duration.minutes(15))
  const drain = Duration.fromInputUnsafe(options.drain ?? Duration.millis(500))
  const closeTimeout = Duration.fromInputUnsafe(options.closeTimeout ?? Duration.seconds(5))
  const maxDeadline = Duration.fromInputUnsafe(options.maxDeadline ?? Duration.days(1))
  const usualDeadline = Duration.min(Duration.fromInputUnsafe(options.deadline ?? Duration.hours(1)), maxDeadline)
  // Most queries have this one: it costs them neither fiber nor timer.
  const usualDeadlines = yield* Deadlines.make(usualDeadline)
  const context = yield* Effect.context<never>()
  const ledger = yield* Ledger.Ledger
  const results = yield* QueryResults
  const clock = yield* Clock.Clock
  const names = Array.from(engines.keys())
  const places = new Map(
    yield* Effect.forEach(engines, ([name, { driver, limits }]) =>
      Effect.map(
        Effect.all({ admission: QueryAdmission.make({ ...options, ...limits }), metrics: QueryMetrics.make(name) }),
        (at) => [name, { ...at, context: Context.add(context, QueryDriver, driver) }] as const
      )
    )
  )
  const maxKept = options.maxKept ?? 10_000
  const maxKeptText = options.maxKeptText ?? 64 * 1024 * 1024
  /** For spans: nobody sets it. */
  const steady = () => SteadyClock.millis(clock)
  const entries = new Entries(
    {
      all: { count: maxKept, text: maxKeptText },
      ofPrincipal: { count: Math.min(options.maxKeptPerPrincipal ?? 1000, maxKept), text: maxKeptText / 4 }
    },
    steady()
  )
  const keys = new QueryIdempotency.Keys(Duration.fromInputUnsafe(options.idempotencyWindow ?? Duration.hours(24)), {
    all: options.maxKeys ?? 100_000,
    ofPrincipal: options.maxKeysPerPrincipal ?? 10_000
  })
  // Nobody's child: closing ends what is in it, and a query that does not end holds up nobody.
  const running = Scope.makeUnsafe("parallel")
  // The fiber that prunes holds it, so that closing returns after all is freed.
  const freeing = Semaphore.makeUnsafe(1)
  let closing = false

  // Thousands of queries may be told the same moment; they share it.
  let moment = DateTime.makeUnsafe(0)
  const now = () => {
    const millis = clock.currentTimeMillisUnsafe()
    if (moment.epochMilliseconds !== millis) moment = DateTime.makeUnsafe(millis)
    return moment
  }

  /** Rows that nobody may read need no room. */
  const tidy = (entry: Entry, outcome: Query.Outcome): Effect.Effect<void> => {
    if (Exit.isSuccess(outcome)) return entry.measure()
    return Cause.hasDies(outcome.cause)
      ? Effect.andThen(QueryMetrics.failed(entry.record.id, outcome.cause), entry.free())
      : entry.free()
  }

  const settle = (entry: Entry, outcome: Query.Outcome): void => {
    const error = Exit.isSuccess(outcome) ? null : keptReason(reasonOf(outcome.cause))
    // Before it is told, so that nobody sees one too many.
    entries.ended(entry, entry.size + QuerySizes.sizeOfReason(error), now())
    const spans = entry.ended(steady())
    if (Exit.isSuccess(outcome)) {
      entry.step("Succeeded", now(), { rowCount: outcome.value.rowCount, bytes: entry.bytes })
    } else if (error !== null) {
      const isCanceled = entry.record.state === "Canceling" && Query.isCancel(error)
      entry.step(isCanceled ? "Canceled" : "Failed", now(), { error })
    }
    const at = places.get(entry.record.engine)
    if (spans.held !== undefined) at?.admission.took(spans.held)
    at?.metrics.ended(entry.record, spans)
  }

  const start = (
    entry: Entry,
    { owner, statement }: Submission,
    place: QueryAdmission.Place,
    deadline: Duration.Duration | undefined,
    context: Context.Context<QueryDriver>
  ) => {
    const { id, principal } = entry.record
    return Query.start(
      {
        id,
        principal,
        attributes: () => ({ principal: entry.record.principal, state: entry.record.state }),
        statement,
        sink: () => Effect.map(entry.open(results.open({ id, principal }), context), (result) => entry.sinkOf(result)),
        owner,
        deadline: deadline === undefined ? usualDeadline : Duration.min(deadline, maxDeadline),
        deadlines: deadline === undefined ? usualDeadlines : undefined,
        place,
        onState: (state) => {
          entry.came(state, steady())
          entry.step(state, now())
        },
        onNotice: (notice) => entry.remark(notice),
        onReleased: (outcome) => tidy(entry, outcome),
        onOutcome: (outcome) => settle(entry, outcome)
      },
      context
    ).pipe(Scope.provide(running))
  }

  /** Takes a query in. It is one step in which nothing else runs, so that a key starts one query. */
  const enter = (submission: Submission, deadline: Duration.Duration | undefined) => {
    if (closing) return fail(shuttingDown)
    const { engine = names[0] ?? defaultEngine, idempotencyKey: key, principal, session, statement } = submission
    const at = places.get(engine)
    if (at === undefined) return fail(new EngineUnknown({ engines: names }))
    const request = key === undefined ? undefined : { principal, key, engine, statement, deadline }
    const answer = request && keys.answer(request, steady())
    if (answer !== undefined) return answer
    const kept = submission.retention === undefined ? retention : Duration.fromInputUnsafe(submission.retention)
    const place = at.admission.enter(principal, QuerySizes.sizeOfStatement(statement))
    if ("rejection" in place) {
      if (place.rejection.reason._tag === "QueryRejected") at.metrics.rejected(place.rejection.reason.limit)
      return Effect.fail(place.rejection)
    }
    at.metrics.submitted()
    const entry = entries.add(
      {
        id: QueryId.make(),
        principal,
        session: session ?? null,
        engine,
        sql: statement.sql,
        at: now(),
        steadyAt: steady(),
        retention: kept
      },
      steady()
    )
    if (request !== undefined) keys.keep(request, entry, steady())
    return Effect.map(start(entry, submission, place, deadline, at.context), (lifetime) => {
      entry.begun(lifetime)
      return entry.record
    })
  }

  // Without a span: the account would keep its stack frame for as long as the query lives.
  const submit = (submission: Submission): Failed<QueryRecord.QueryRecord> =>
    Effect.uninterruptible(
      Effect.suspend(() =>
        enter(submission, submission.deadline === undefined ? undefined : Duration.fromInputUnsafe(submission.deadline))
      )
    )

  const find = (principal: string, id: QueryId.QueryId): Failed<Entry> =>
    Effect.suspend(() => {
      const entry = entries.find(principal, id)
      return entry === undefined ? fail(new QueryNotFound({})) : Effect.succeed(entry)
    })

  /** The record with the outcome, or nothing of a query that does not end although the registry closed. */
  const outcome = (entry: Entry) =>
    entry.when(() => (entry.isOver ? entry.record : entries.has(entry) ? undefined : null))

  const cancel = (entry: Entry) => Effect.andThen(entry.end(), outcome(entry))

  const told = (record: QueryRecord.QueryRecord | null) =>
    record === null ? fail(shuttingDown) : Effect.succeed(record)

  const reading = QueryRegistryReading.make(find, entries)

  const cancelAll = (of: { readonly principal: string } | { readonly session: string }) =>
    Effect.suspend(() => {
      const theirs =
        "principal" in of
          ? entries.of(of.principal)
          : entries.all().filter(({ record }) => record.session === of.session)
      return Effect.map(
        inParallel(
          theirs.filter(({ isOver }) => !isOver),
          cancel
        ),
        (records) => records.filter((record) => record !== null)
      )
    })

  const prune = Effect.suspend(() => {
    keys.prune(steady())
    // Closing frees the rest, all at once.
    const forget = (entry: Entry) => (closing ? Effect.void : entries.forget(entry, now()))
    return Effect.forEach(entries.due(steady()), forget, { discard: true })
  }).pipe(freeing.withPermit)

  const close = Effect.suspend(() => {
    closing = true
    return EntriesClosing.close(entries, { drain, closeTimeout, now, steady, ledger, freeing })
  })

  const sample = Effect.sync(() => {
    const states = new Map(names.map((name): [string, Array<QueryState>] => [name, []]))
    for (const { record } of entries.all()) states.get(record.engine)?.push(record.state)
    for (const [name, { metrics }] of places) metrics.sample(states.get(name) ?? [])
  })
  yield* Effect.forkScoped(Effect.repeat(Effect.andThen(prune, sample), Schedule.spaced(Duration.seconds(1))))
  // After the pruning was begun, which is over when nothing is left to prune.
  yield* Effect.addFinalizer(() => close)

  return QueryRegistry.of({
    submit,
    status: (principal, id) => Effect.map(find(principal, id), ({ record }) => record),
    await: (principal, id) => Effect.flatMap(Effect.flatMap(find(principal, id), outcome), told),
    cancel: (principal, id) => Effect.flatMap(Effect.flatMap(find(principal, id), cancel), told),
    cancelAll,
    ...reading,
    list: (principal, options) => Effect.sync(() => entries.list(principal, options)),
    prune
  })
})

/** Makes a registry over the driver in context, which is its one engine; it closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  return yield* makeEngines(new Map([[defaultEngine, { driver: yield* QueryDriver }]]), options)
})

/** A registry over the driver and the result store in context. */
export const layer = (options?: Options): Layer.Layer<QueryRegistry, never, QueryDriver | QueryResults> =>
  Layer.effect(QueryRegistry, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ maxRunning: Config.Int("MAX_QUERIES") })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<QueryRegistry, Config.ConfigError, QueryDriver | QueryResults> =>
  Layer.unwrap(Config.unwrap(config).pipe(Effect.map(layer)))
