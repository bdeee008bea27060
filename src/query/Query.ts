/**
 * A statement that runs, as a layer.
 *
 * A query lives from {@link start} until its lifetime is over: then its statement has ended at the server, its connection is
 * released, and only then is its outcome known to anybody. It ends when it is done, when its scope closes, or when the
 * session it belongs to (`Lifetime.Current`) ends, whichever comes first.
 *
 * ```
 * lifetime "query"   ended in this order:  4 outcome published
 *   └── permit                             3 permit, or place in the queue for one, given back
 *         └── fiber                        2 connection released
 *               └── connection             1 statement interrupted, the server said what became of it
 *                     └── statement
 * ```
 */
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import type * as Deadlines from "../lifetime/Deadlines.ts"
import type * as FairSemaphore from "../lifetime/FairSemaphore.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as Lifetime from "../lifetime/Lifetime.ts"
import * as Job from "../lifetime/internal/Job.ts"
import {
  type Column,
  type Execution,
  Principal,
  QueryDriver,
  type Row,
  type RowSink,
  type Statement,
  type Summary
} from "./QueryDriver.ts"
import {
  QueriesUnavailable,
  QueryCanceled,
  QueryDeadlineExceeded,
  QueryError,
  SessionEnded,
  type Written
} from "./QueryError.ts"
import * as QueryId from "./QueryId.ts"
import type { QueryState } from "./QueryState.ts"

/** What became of a query: what the server said, or why there is no result. Cancelled queries have `QueryCanceled`. */
export type Outcome = Exit.Exit<Summary, QueryError>

/** How to run a statement. */
export interface StartOptions {
  readonly id: QueryId.QueryId
  readonly statement: Statement
  /** On whose behalf the connection is opened. Default: as the context says. */
  readonly principal?: string | undefined
  /** What the ledger tells about it, besides its id and since when it is held. */
  readonly attributes?: Ledger.Options["attributes"]
  /** Opens the sink when the query starts, in a scope of the maker's. */
  readonly sink: () => Effect.Effect<RowSink, QueryError>
  /** Ends the query when it ends. The session, where there is one. */
  readonly owner: Lifetime.Lifetime | undefined
  /** From now until the outcome, waiting included. Default: none. */
  readonly deadline?: Duration.Duration | undefined
  /** What watches that deadline, where many have the same. Default: a fiber of its own. */
  readonly deadlines?: Deadlines.Deadlines | undefined
  /** To be granted before a connection is taken, and left when it is back, whatever happens. */
  readonly place?: FairSemaphore.Place<QueryError> | undefined
  /** Told of every step but the terminal one. */
  readonly onState?: ((state: QueryState) => void) | undefined
  /** Notes by what the statement can be ended from elsewhere, before it is sent. */
  readonly onHandle?: Execution["onHandle"]
  /** Told of what the engine remarks while the statement runs. */
  readonly onNotice?: Execution["onNotice"]
  /** Run after the connection was released, before the outcome is told: to tidy up. Not run when nothing was started. */
  readonly onReleased?: ((outcome: Outcome) => Effect.Effect<void>) | undefined
  /** Told of the outcome once, after everything was released. Must not throw. */
  readonly onOutcome: (outcome: Outcome) => void
}

/**
 * Starts a query for the current scope and returns its lifetime; the caller ties `lifetime.end` to whatever else should end
 * it.
 *
 * This is the only way a statement runs: the layer and the registry both go through it. A query that waits for its place costs
 * no fiber.
 */
export const start = (
  options: StartOptions,
  services: Context.Context<QueryDriver>
): Effect.Effect<Lifetime.Lifetime, never, Scope.Scope> => {
  const { deadline } = options
  let written: Written | undefined
  const unfinished = (by: Job.EndedBy): Outcome => {
    const more = written === undefined ? {} : { written }
    const reason = {
      deadline: () =>
        new QueryDeadlineExceeded({ afterMillis: deadline === undefined ? 0 : Duration.toMillis(deadline), ...more }),
      owner: () => new SessionEnded(more),
      request: () => new QueryCanceled(more)
    }[by]()
    return Exit.fail(new QueryError({ reason }))
  }
  const onGivenUp = (by: Written) => {
    written = by
  }
  return Job.start(
    {
      ...options,
      kind: "query",
      work: (told, onDone) => execute(options, told, { onDone, onGivenUp }),
      unfinished,
      takenAway
    },
    services
  )
}

/**
 * A span where the caller is traced. It has the first word of the statement and none of the others: there may be values among them
 * (OpenTelemetry, "Semantic conventions for database client spans").
 */
const traced = <A, E, R>(running: Effect.Effect<A, E, R>, { sql }: Statement): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    Context.getOrUndefined(fiber.context, Tracer.ParentSpan) === undefined
      ? running
      : Effect.withSpan(running, "statement", {
          kind: "client",
          attributes: { "db.operation.name": /[a-z]+/i.exec(sql.slice(0, 100))?.[0].toUpperCase() ?? "" },
          captureStackTrace: false
        })
  ) as Effect.Effect<A, E, R>

const execute = (
  { deadline, id, onHandle, onNotice, principal, sink, statement }: StartOptions,
  told: (step: Job.Step) => void,
  { onDone, onGivenUp }: Pick<Execution, "onDone" | "onGivenUp">
) =>
  Effect.scoped(
    Effect.flatMap(QueryDriver, (driver) => {
      told("Starting")
      const opened = principal === undefined ? driver.open : Effect.provideService(driver.open, Principal, principal)
      return Effect.flatMap(sink(), (rows) =>
        Effect.flatMap(opened, (connection) => {
          told("Running")
          const execution = { id, deadline, onDone, onGivenUp, onHandle, onNotice }
          const running = connection.execute(statement, rows, execution)
          return Ledger.during({ kind: "statement", id })(traced(running, statement))
        })
      )
    })
  )

const takenAway: Outcome = Exit.fail(
  new QueryError({
    reason: new QueriesUnavailable({
      problem: "The connection was taken away. Look at what the statement wrote before you submit it again.",
      written: "unknown"
    })
  })
)

/** Whether the outcome is that somebody, or the end of the session, wanted it over, and the server confirmed that it is. */
export const isCancel = (reason: QueryError["reason"]): boolean =>
  (reason._tag === "QueryCanceled" || reason._tag === "SessionEnded") && reason.written !== "unknown"

/** A running or finished query. */
export class Query extends Context.Service<
  Query,
  {
    readonly id: QueryId.QueryId
    /**
     * The columns, as soon as the server has told them. The names of types that are not built in are there when the rows have been
     * read; until then such a type may be `oid 12345`.
     */
    readonly columns: Effect.Effect<ReadonlyArray<Column>, QueryError>
    /**
     * The rows, read from the server as they are pulled, once. The stream ends after the connection was released, and
     * fails with what became of the query: `StatementFailed`, `SessionEnded`, …
     */
    readonly rows: Stream.Stream<Row, QueryError>
    /** What the server said when it was done. Rows that nobody reads hold it up. */
    readonly summary: Effect.Effect<Summary, QueryError>
  }
>()("holdfast/query/Query") {}

/** Runs a statement for the current scope and the session in context. */
export const make = Effect.fn("Query.make")(function* (statement: Statement) {
  const scope = yield* Effect.scope
  const owner = yield* Effect.mapError(
    Lifetime.current,
    ({ message }) => new QueryError({ reason: new QueriesUnavailable({ problem: message }) })
  )
  const columns = yield* Deferred.make<void, QueryError>()
  let told: ReadonlyArray<Column> = []
  const summary = yield* Deferred.make<Summary, QueryError>()
  const rows = yield* Queue.bounded<Row, QueryError | Cause.Done>(1024)
  const id = QueryId.make()
  const lifetime = yield* start(
    {
      id,
      statement,
      sink: () =>
        Effect.succeed({
          columns: (found) =>
            Effect.suspend(() => {
              told = found
              return Effect.asVoid(Deferred.succeed(columns, undefined))
            }),
          rows: (found) => Queue.offerAll(rows, found)
        }),
      owner,
      onOutcome: (outcome) => {
        if (Exit.isFailure(outcome)) {
          Deferred.doneUnsafe(columns, Exit.failCause(outcome.cause))
          Queue.failCauseUnsafe(rows, outcome.cause)
        } else {
          Queue.endUnsafe(rows)
        }
        Deferred.doneUnsafe(summary, outcome)
      }
    },
    yield* Effect.context<QueryDriver>()
  )
  yield* Scope.addFinalizerExit(scope, lifetime.end)
  return Query.of({
    id,
    columns: Effect.map(Deferred.await(columns), () => told),
    rows: Stream.fromQueue(rows),
    summary: Deferred.await(summary)
  })
}, Effect.uninterruptible)

/**
 * A statement that runs as long as the layer's scope and its session last.
 *
 * **Gotchas**
 *
 * Fresh at the leaf: two builds run the statement twice. Put the session's layer *below* it with `Layer.provideMerge`, as
 * siblings close in no order.
 */
export const layer = (sql: string, params: Statement["params"] = []): Layer.Layer<Query, QueryError, QueryDriver> =>
  Layer.fresh(Layer.effect(Query, make({ sql, params })))
