/**
 * Queries that all instances of the service share: their journal, their rows, and what each instance has at the engines.
 *
 * They live as long as the layer, which has to outlive the engines and the registry.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as FileQueryResults from "../node/FileQueryResults.ts"
import * as PgQueryJournal from "../postgres/PgQueryJournal.ts"
import * as PgQueryResults from "../postgres/PgQueryResults.ts"
import type { Elsewhere } from "../query/QueryDriver.ts"
import { QueryJournal } from "../query/QueryJournal.ts"
import { QueryRegistry } from "../query/QueryRegistry.ts"
import { SessionStore } from "../session/SessionStore.ts"
import type { Databases } from "./Databases.ts"
import { Engines } from "./Engines.ts"
import * as Holdings from "./Holdings.ts"
import { remembered } from "./Remembered.ts"
import type { Settings } from "./Settings.ts"

type Where = Pick<Databases, "own">

/** How often it is asked whether the sessions of queries that were taken over are there still. */
const sessionCheck = Duration.seconds(2)

const metrics = {
  isValid: Metric.gauge("holdfast_queries_lease_valid", {
    description: "Whether this instance holds its lease in the journal of queries: 1 or 0"
  }),
  lagSeconds: Metric.gauge("holdfast_queries_lease_lag_seconds", {
    description: "Time since this instance last renewed its lease"
  }),
  instances: Metric.gauge("holdfast_queries_instances", {
    description: "Instances that share the journal of queries"
  }),
  takenOver: Metric.counter("holdfast_queries_takeovers_total", {
    description: "Instances that this one took over from"
  })
}

/** Makes the tables, where queries are shared. */
export const migrate = ({ sharedQueries }: Settings, { own }: Where) =>
  sharedQueries ? PgQueryJournal.migrate({ url: own }) : Effect.void

/** The journal, where queries are shared. */
export const layerJournal = ({ sharedQueries }: Settings, { own }: Where): Layer.Layer<never> =>
  sharedQueries ? PgQueryJournal.layer({ url: own }) : Layer.empty

/** Where rows are kept: for all instances, or for this one. */
export const layerResults = ({ sharedQueries }: Settings, { own }: Where) =>
  sharedQueries ? PgQueryResults.layer({ url: own }) : FileQueryResults.layer()

/**
 * Whether a statement that an instance has left running which is gone can be ended by another one, by the name of its engine: null
 * where queries are not shared.
 */
export const EndsElsewhere = Context.Reference<(engine: string) => Effect.Effect<boolean | null>>(
  "holdfast/server/EndsElsewhere",
  { defaultValue: () => () => Effect.succeed(null) }
)

/** What is missing to end statements of an instance that is gone. Fails where the engine cannot be asked. */
const missingOf = ({ missing = Effect.succeed(undefined) }: Elsewhere) => missing

/** Over the journal and the engines in context. What roles may do is asked once a minute. */
export const layerEndsElsewhere = Layer.effect(
  EndsElsewhere,
  Effect.gen(function* () {
    const engines = yield* Engines
    if ((yield* QueryJournal) === undefined) return () => Effect.succeed(null)
    const ends = new Map<string, Effect.Effect<boolean>>()
    for (const [name, { elsewhere }] of engines) {
      if (elsewhere === undefined) continue
      const mayEnd = Effect.map(missingOf(elsewhere), (missing) => missing === undefined)
      ends.set(
        name,
        yield* remembered(
          Effect.orElseSucceed(mayEnd, () => false),
          () => "1 minute"
        )
      )
    }
    return (engine: string) => ends.get(engine) ?? Effect.succeed(false)
  })
)

/** Says at start what is missing to end statements of an instance that is gone. */
const warnings = Effect.flatMap(Engines, (engines) =>
  Effect.forEach(
    engines,
    ([name, { elsewhere }]) =>
      elsewhere === undefined
        ? Effect.void
        : Effect.matchCauseEffect(missingOf(elsewhere), {
            onSuccess: (missing) =>
              missing === undefined
                ? Effect.void
                : LogEvent.warning(
                    { event: "takeover.rights_missing", engine: name },
                    `On the engine ${name}, ${missing}.`
                  ),
            onFailure: () => Effect.fail("away" as const)
          }).pipe(Effect.retry(Schedule.spaced("5 seconds"))),
    { concurrency: "unbounded", discard: true }
  )
)

/**
 * What the service does besides: the end of a session reaches the queries that were taken over from another instance, the
 * metrics tell how this one stands, and other instances are told what it holds.
 */
export const layerWatch = Layer.effectDiscard(
  Effect.gen(function* () {
    const journal = yield* QueryJournal
    const registry = yield* Effect.serviceOption(QueryRegistry)
    if (journal === undefined || Option.isNone(registry)) return
    yield* Holdings.answering(journal)
    const store = yield* SessionStore
    const sessions = Effect.gen(function* () {
      const held = yield* journal.sessions
      if (held.length === 0) return
      for (const session of yield* store.endedOf(held as Parameters<typeof store.endedOf>[0])) {
        yield* registry.value.cancelAll({ session })
      }
    })
    let counted = 0
    const sample = Effect.flatMap(journal.standing, ({ instances, isValid, lagMillis, takenOver }) =>
      Effect.all([
        Metric.update(metrics.isValid, isValid ? 1 : 0),
        Metric.update(metrics.lagSeconds, lagMillis / 1000),
        Metric.update(metrics.instances, instances),
        Metric.update(metrics.takenOver, takenOver - counted),
        Effect.sync(() => {
          counted = takenOver
        })
      ])
    )
    yield* Effect.forkScoped(Effect.repeat(Effect.ignore(sessions), Schedule.spaced(sessionCheck)))
    yield* Effect.forkScoped(Effect.repeat(sample, Schedule.spaced("1 second")))
    yield* Effect.forkScoped(warnings)
  })
)

/** Tells whether this instance may speak for its queries, which it may where they are not shared. */
export const leased: Effect.Effect<() => boolean> = Effect.map(
  QueryJournal,
  (journal) => () => journal?.isValid() ?? true
)
