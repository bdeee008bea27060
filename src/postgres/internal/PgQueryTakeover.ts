/**
 * Takes over from an instance that is gone: ends its incarnation, then what it has at the engines, and then marks its queries or
 * runs them again.
 *
 * Any instance does so that notices, also several at once: each step is one statement, and what one has done the next one finds
 * done. Where an engine cannot be asked, its queries stay as they are until it can.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import { QueriesUnavailable, QueryCanceled, type QueryError } from "../../query/QueryError.ts"
import type { Elsewhere } from "../../query/QueryDriver.ts"
import type * as QueryJournal from "../../query/QueryJournal.ts"
import type { PgQuerySql } from "./PgQuerySql.ts"
import * as PgQueryRow from "./PgQueryRow.ts"

/** What is needed to take over. */
export interface Options {
  readonly statements: PgQuerySql
  readonly ask: (
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>
  /** The incarnation of this instance. */
  readonly incarnation: () => string | undefined
  readonly beatMillis: number
  readonly registry: QueryJournal.Registry
  /** A query is this instance's by now. */
  readonly adopted: (claim: QueryJournal.Claim, work: QueryJournal.Work) => Effect.Effect<void>
}

/** Queries in one statement. */
const batch = 200

/** What was asked to end is looked at again so often. */
const lookAgain = Schedule.spaced("20 millis")

/** So long it has to be gone, before the next beat tries anew. */
const patience = "10 seconds"

const begun = (end: string) =>
  PgQueryRow.errorText(
    new QueriesUnavailable({
      problem: `The instance that ran the query is gone${end}. Look at what the statement wrote before you submit it again.`,
      written: "unknown"
    })
  )

const ended = begun(", and its statement does not run any more")
const mayRun = begun(", and whether its statement still runs is not known")
const waited = PgQueryRow.errorText(
  new QueriesUnavailable({ problem: "The instances that were to run the query are gone. Submit it again." })
)
const canceled = PgQueryRow.errorText(new QueryCanceled({}))

const decodeBackend = PgQueryRow.decode(Schema.Tuple([Schema.String, Schema.String]))
const decodeFence = PgQueryRow.decode(Schema.Tuple([Schema.Boolean, Schema.Boolean]))

/** What an incarnation has at each engine. */
const byEngine = (backends: ReadonlyArray<readonly [string, string]>) => {
  const handles = new Map<string, Array<string>>()
  for (const [engine, handle] of backends) {
    const those = handles.get(engine)
    if (those === undefined) handles.set(engine, [handle])
    else those.push(handle)
  }
  return handles
}

/** Takes over from an incarnation; false where something is left for another time. */
export const takeOver = Effect.fnUntraced(function* (dead: string, options: Options) {
  const { ask, registry, statements } = options
  const [fenced] = yield* ask(statements.fence, [dead, 2 * options.beatMillis])
  if (fenced === undefined) return false
  const [isLongGone, hasNoted] = yield* decodeFence(fenced)

  const handles = byEngine(yield* Effect.forEach(yield* ask(statements.backendsOf, [dead]), decodeBackend))
  const endAll = (end: Elsewhere["end"], theirs: ReadonlyArray<string>) => {
    let isAsked = false
    const once = Effect.tap(end(theirs), () =>
      Effect.sync(() => {
        isAsked = true
      })
    )
    return Effect.repeat(once, { until: (left) => left === 0, schedule: lookAgain }).pipe(
      Effect.timeout(patience),
      Effect.matchCauseEffect({
        onSuccess: () => Effect.succeed({ isOver: true, isAsked }),
        onFailure: (cause) =>
          Effect.map(
            LogEvent.warning(
              { event: "takeover.stuck" },
              "What an instance that is gone has left running cannot be ended yet",
              cause
            ),
            () => ({ isOver: false, isAsked })
          )
      })
    )
  }
  const engines = yield* Effect.forEach(
    registry.engines,
    ([name, elsewhere]) =>
      Effect.map(
        elsewhere === undefined || !handles.has(name)
          ? Effect.succeed({ isOver: true, isAsked: false })
          : endAll(elsewhere.end, handles.get(name) ?? []),
        (found) => ({ name, ...found, isKnown: elsewhere !== undefined && (hasNoted || handles.has(name)) })
      ),
    { concurrency: "unbounded" }
  )
  const namesOf = (some: typeof engines) => some.map(({ name }) => name)
  const over = namesOf(engines.filter(({ isOver }) => isOver))
  // Where nothing can be ended from elsewhere, or nothing was noted by an older version, what was begun may run still: it must not
  // be run a second time.
  const known = engines.filter(({ isKnown }) => isKnown)
  const again = namesOf(known.filter(({ isOver }) => isOver))
  // An engine that is away is waited for. Where one was asked and did not end it, waiting longer would be for nothing.
  const waitedFor = namesOf(known.filter(({ isAsked, isOver }) => isOver || !isAsked))

  if (handles.size > 0) yield* ask(statements.forgetBackends, [dead, JSON.stringify(over)])

  const adopt: Effect.Effect<void, QueryError> = Effect.gen(function* () {
    const me = options.incarnation()
    if (me === undefined) return
    const rows = yield* ask(statements.adopt, [dead, me, JSON.stringify(over), JSON.stringify(again), batch])
    yield* Effect.forEach(
      rows,
      (row) => Effect.flatMap(PgQueryRow.adoptedOf(row, me), ({ claim, work }) => options.adopted(claim, work)),
      { discard: true }
    )
    if (rows.length === batch) return yield* adopt
  })
  yield* adopt

  const marked = isLongGone ? [...new Set([...over, ...handles.keys(), ...registry.engines.keys()])] : over
  const giveUp: Effect.Effect<void, QueryError> = Effect.flatMap(
    ask(statements.giveUp, [
      dead,
      JSON.stringify(isLongGone ? marked : over),
      ended,
      waited,
      canceled,
      batch,
      JSON.stringify(again),
      mayRun,
      JSON.stringify(waitedFor)
    ]),
    (rows) => (rows.length === batch ? giveUp : Effect.void)
  )
  yield* giveUp
  return (yield* ask(statements.cleaned, [dead])).length > 0
})
