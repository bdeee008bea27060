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
 * A registry knows the queries of its own process; over a `QueryJournal` that several instances share, it knows those of all,
 * also of those that are gone. What is asked about another principal's query is answered as if there were none.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as Stream from "effect/Stream"
import * as Deadlines from "../lifetime/Deadlines.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as EntriesClosing from "../lifetime/internal/EntriesClosing.ts"
import { inParallel } from "../lifetime/internal/Entry.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as Query from "./Query.ts"
import * as QueryAdmission from "./internal/QueryAdmission.ts"
import { QueryDriver, type Row } from "./QueryDriver.ts"
import { EngineUnknown, QueriesUnavailable, QueryError, QueryNotFound } from "./QueryError.ts"
import * as QueryId from "./QueryId.ts"
import * as QueryIdempotency from "./internal/QueryIdempotency.ts"
import * as QueryMetrics from "./internal/QueryMetrics.ts"
import type * as QueryRecord from "./QueryRecord.ts"
import * as QueryJournal from "./QueryJournal.ts"
import { Entries, type Listing, type ListOptions } from "./internal/QueryRegistryEntries.ts"
import { type Entry, newRecord } from "./internal/QueryRegistryEntry.ts"
import * as QueryRegistryElsewhere from "./internal/QueryRegistryElsewhere.ts"
import * as QueryRegistrySharing from "./internal/QueryRegistrySharing.ts"
import type { Event } from "./internal/QueryRegistryEvents.ts"
import * as QueryRegistryOptions from "./internal/QueryRegistryOptions.ts"
import type { Engine, Options, Submission } from "./internal/QueryRegistryOptions.ts"
import { comesTo, tidy } from "./internal/QueryRegistryOutcome.ts"
import * as QueryRegistryReading from "./internal/QueryRegistryReading.ts"
import { type Page, type PageText, QueryResults } from "./QueryResults.ts"
import type { Range } from "./internal/QueryPages.ts"
import * as QuerySizes from "./internal/QuerySizes.ts"

export type { Engine, Event, Listing, ListOptions, Options, Submission }

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
    ) => Failed<ReadonlyArray<QueryRecord.QueryRecord>>
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
    readonly list: (principal: string, options?: ListOptions) => Failed<Listing>
    /** Removes what is past its retention, as the registry does by itself every second. */
    readonly prune: Effect.Effect<void>
  }
>()("holdfast/query/QueryRegistry") {}

const fail = (reason: QueryError["reason"]) => Effect.fail(new QueryError({ reason }))

const shuttingDown = new QueriesUnavailable({ problem: "The service is shutting down. Try again later." })

/** Makes a registry over several engines, by name; it closes with the current scope. The first engine is the default. */
export const makeEngines = Effect.fnUntraced(function* (
  engines: ReadonlyMap<string, Engine>,
  options: Options = {}
): Effect.fn.Return<QueryRegistry["Service"], never, QueryResults | Scope.Scope> {
  const { bounds, closeTimeout, drain, idempotencyWindow, maxDeadline, maxKeys, retention, usualDeadline } =
    QueryRegistryOptions.resolve(options)
  // Most queries have this one: it costs them neither fiber nor timer.
  const usualDeadlines = yield* Deadlines.make(usualDeadline)
  const context = yield* Effect.context<never>()
  const ledger = yield* Ledger.Ledger
  const results = yield* QueryResults
  const clock = yield* Clock.Clock
  const journal = yield* QueryJournal.QueryJournal
  const names = Array.from(engines.keys())
  const places = new Map(
    yield* Effect.forEach(engines, ([name, { driver, limits }]) =>
      Effect.map(
        Effect.all({ admission: QueryAdmission.make({ ...options, ...limits }), metrics: QueryMetrics.make(name) }),
        (at) => {
          const { maxWaitingPerPrincipal = 100 } = { ...options, ...limits }
          return [name, { ...at, maxWaitingPerPrincipal, context: Context.add(context, QueryDriver, driver) }] as const
        }
      )
    )
  )
  /** For spans: nobody sets it. */
  const steady = () => SteadyClock.millis(clock)
  const entries = new Entries(bounds, steady())
  const keys = new QueryIdempotency.Keys(idempotencyWindow, maxKeys)
  // Nobody's child: closing ends what is in it, and a query that does not end holds up nobody.
  const running = Scope.makeUnsafe("parallel")
  // The fiber that prunes holds it, so that closing returns after all is freed.
  const freeing = Semaphore.makeUnsafe(1)
  let closing = false
  let sharing: QueryRegistrySharing.Sharing | undefined

  // Thousands of queries may be told the same moment; they share it.
  let moment = DateTime.makeUnsafe(0)
  const now = () => {
    const millis = journal?.now() ?? clock.currentTimeMillisUnsafe()
    if (moment.epochMilliseconds !== millis) moment = DateTime.makeUnsafe(millis)
    return moment
  }

  const tell = (entry: Entry, record: QueryRecord.QueryRecord): void => {
    // Before it is told, so that nobody sees one too many.
    entries.ended(entry, entry.size + QuerySizes.sizeOfReason(record.error), now())
    const spans = entry.ended(steady())
    entry.become(record)
    const at = places.get(entry.record.engine)
    if (spans.held !== undefined) at?.admission.took(spans.held)
    at?.metrics.ended(entry.record, spans)
  }

  const settle = (entry: Entry, outcome: Query.Outcome): void => {
    const ending = comesTo(entry, outcome)
    if (entry.sharing === undefined) tell(entry, entry.after(ending.state, now(), ending.change))
    else sharing?.settle(entry, entry.sharing, ending)
  }

  const start: QueryRegistrySharing.Local["start"] = (entry, { owner, statement }, place, deadline) => {
    const { engine, id, principal } = entry.record
    const context = places.get(engine)?.context
    if (context === undefined) return Effect.die(new Error(`There is no engine ${engine}`))
    return Query.start(
      {
        id,
        principal,
        attributes: () => ({ principal: entry.record.principal, state: entry.record.state }),
        statement,
        sink: () =>
          Effect.map(entry.open(results.open({ id, principal, claim: entry.sharing?.claim }), context), (result) =>
            entry.sinkOf(result)
          ),
        owner,
        deadline: deadline === undefined ? usualDeadline : Duration.min(deadline, maxDeadline),
        deadlines: deadline === undefined ? usualDeadlines : undefined,
        place,
        onState: (state) => {
          entry.came(state, steady())
          // Over a shared journal it may have been told already that it starts.
          if (state !== entry.record.state) entry.step(state, now())
          sharing?.noted(entry)
        },
        onHandle: sharing?.handlesOf(entry),
        onNotice: (notice) => entry.remark(notice),
        onReleased: (outcome) => tidy(entry, outcome),
        onOutcome: (outcome) => settle(entry, outcome)
      },
      context
    ).pipe(Scope.provide(running))
  }

  const list = (
    { principal, ...more }: Pick<QueryRecord.QueryRecord, "id" | "principal" | "session" | "engine" | "sql">,
    retention: Duration.Duration,
    since: { readonly at: DateTime.Utc; readonly transitions?: QueryRecord.QueryRecord["transitions"] } = { at: now() }
  ) =>
    entries.add(
      { principal, ...more, ...since, instance: journal?.instance ?? null, steadyAt: steady(), retention },
      steady()
    )

  /** Takes a query in. It is one step in which nothing else runs, so that a key starts one query. */
  const enter = (submission: Submission, deadline: Duration.Duration | undefined): Failed<QueryRecord.QueryRecord> => {
    if (closing) return fail(shuttingDown)
    const { engine = names[0] ?? defaultEngine, idempotencyKey: key, principal, session, statement } = submission
    const at = places.get(engine)
    if (at === undefined) return fail(new EngineUnknown({ engines: names }))
    const request = key === undefined ? undefined : { principal, key, engine, statement, deadline }
    const answer = request && sharing === undefined ? keys.answer(request, steady()) : undefined
    if (answer !== undefined) return answer
    const kept = submission.retention === undefined ? retention : Duration.fromInputUnsafe(submission.retention)
    const described = { id: QueryId.make(), principal, session: session ?? null, engine, sql: statement.sql }
    const digest = request === undefined || sharing === undefined ? "" : QueryIdempotency.digestOf(request)
    const place = at.admission.enter(principal, QuerySizes.sizeOfStatement(statement))
    if ("rejection" in place) {
      const { rejection } = place
      if (rejection.reason._tag === "QueryRejected") at.metrics.rejected(rejection.reason.limit)
      if (sharing === undefined || key === undefined) return Effect.fail(rejection)
      return Effect.flatMap(sharing.known({ key, digest, submitted: newRecord(described, now()) }), (known) =>
        Option.isSome(known) ? Effect.succeed(known.value) : Effect.fail(rejection)
      )
    }
    at.metrics.submitted()
    const entry = list(described, kept)
    if (sharing !== undefined) {
      return sharing.submit(entry, submission, place, deadline, {
        deadlineMillis: Duration.toMillis(Duration.min(deadline ?? usualDeadline, maxDeadline)),
        retentionMillis: Duration.toMillis(kept),
        rerun: submission.rerun ?? false,
        maxWaitingOfPrincipal: at.maxWaitingPerPrincipal,
        key:
          key === undefined
            ? undefined
            : {
                name: key,
                digest,
                windowMillis: Duration.toMillis(idempotencyWindow),
                maxOfPrincipal: maxKeys.ofPrincipal
              }
      })
    }
    if (request !== undefined) keys.keep(request, entry, steady())
    return Effect.map(start(entry, submission, place, deadline), (lifetime) => {
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
    const end = EntriesClosing.close(entries, {
      drain,
      closeTimeout,
      now,
      steady,
      ledger,
      freeing,
      written: sharing?.written
    })
    return sharing === undefined
      ? end
      : Effect.andThen(Effect.timeoutOption(sharing.handOverWaiting, Duration.divideUnsafe(closeTimeout, 5)), end)
  })

  const sample = Effect.sync(() => QueryMetrics.sample(places, entries.all()))
  yield* Effect.forkScoped(Effect.repeat(Effect.andThen(prune, sample), Schedule.spaced(Duration.seconds(1))))
  if (journal !== undefined) {
    sharing = yield* QueryRegistrySharing.make(journal, {
      entries,
      engines: new Map(Array.from(engines, ([name, { driver, elsewhere }]) => [name, elsewhere ?? driver.elsewhere])),
      keptOfPrincipal: bounds.ofPrincipal,
      now,
      isClosing: () => closing,
      start,
      takeIn: ({ record, retentionMillis, statement }) => {
        const place = places
          .get(record.engine)
          ?.admission.enter(record.principal, QuerySizes.sizeOfStatement(statement))
        if (place === undefined || "rejection" in place) return undefined
        const { transitions } = record
        const entry = list(record, Duration.millis(retentionMillis), { at: transitions[0].at, transitions })
        return { entry, place }
      },
      tell,
      undoes: (engine) => engines.get(engine)?.driver.capabilities?.undoes === true
    })
    yield* sharing.join
  }
  // After the pruning was begun, which is over when nothing is left to prune.
  yield* Effect.addFinalizer(() => close)

  if (journal !== undefined && sharing !== undefined) {
    const all = QueryRegistryElsewhere.make(journal, results, entries, sharing.end)
    return QueryRegistry.of({ submit, ...all, prune: Effect.andThen(prune, Effect.ignore(journal.prune)) })
  }
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
