/**
 * An instance among others: its incarnation, the lease of that, and which others seem to be gone.
 *
 * It lives as long as its scope; then the incarnation is over. While the database is away there is none, or its lease runs out.
 *
 * **Details**
 *
 * The lease is renewed with each beat. An incarnation that somebody has ended is lost for good: what it ran is ended, and
 * another one begins. An instance that could not renew its own lease judges nobody for as long as a lease lasts: the others may
 * have been cut off as well.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import { QueryId } from "../../query/QueryId.ts"
import type { QueryError } from "../../query/QueryError.ts"
import { randomUUID } from "node:crypto"
import type { Backend } from "./PgOpening.ts"
import type { PgQuerySql } from "./PgQuerySql.ts"
import * as PgQueryRow from "./PgQueryRow.ts"

/** What is needed to live. */
export interface Options {
  readonly name: string
  readonly beat: Duration.Duration
  readonly lease: Duration.Duration
  readonly statements: PgQuerySql
  readonly ask: (
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>
  /** The incarnation from now on; none, once it was lost. */
  readonly became: (incarnation: string | undefined) => void
  /** Ends what a lost incarnation ran. */
  readonly lost: Effect.Effect<void>
  /** An incarnation seems to be gone. */
  readonly gone: (incarnation: string) => Effect.Effect<void>
  readonly canceled: (ids: ReadonlyArray<QueryId>) => void
  /** Something is to be pruned. */
  readonly due: Effect.Effect<void>
}

/** An instance that could not begin, such as before its tables are there, tries again so soon. */
const joinAgain = Duration.millis(200)

/** So long it waits, in milliseconds, until what it had at the engines before is over. */
const leftoverMillis = 10_000

const Ids = Schema.fromJsonString(Schema.Array(Schema.String))
const decodeBeat = PgQueryRow.decode(
  Schema.Tuple([
    Schema.Int,
    Ids,
    Schema.fromJsonString(Schema.Array(QueryId)),
    Schema.Boolean,
    Schema.Int,
    Schema.Finite
  ])
)
const decodeMoment = PgQueryRow.decode(Schema.Tuple([Schema.Finite]))

/** Begins to live. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const { ask, became, lost, name, statements } = options
  const clock = yield* Clock.Clock
  const steady = () => SteadyClock.millis(clock)
  const leaseMillis = Duration.toMillis(options.lease)
  const beatMillis = Duration.toMillis(options.beat)
  let incarnation: string | undefined
  let validUntil = Number.NEGATIVE_INFINITY
  let renewedAt = steady()
  let judgesFrom = Number.NEGATIVE_INFINITY
  let instances = 1
  /** Until it is known that there is nobody else, there may be. */
  let isAlone = false
  /** From our steady clock to the time of the database. */
  let ahead = clock.currentTimeMillisUnsafe() - steady()

  /** The answer was made between the question and now; of two answers, the quicker one tells better. */
  let slack = Number.POSITIVE_INFINITY
  const learn = (askedAt: number, time: number) => {
    const took = steady() - askedAt
    // A clock drifts: what was learned long ago counts less and less.
    slack += 1
    if (took > slack) return
    slack = took
    ahead = time - (askedAt + took / 2)
  }

  /** One that was lost, and until when what it had at the engines is waited for. */
  let previous: { readonly id: string; readonly until: number } | undefined

  /** The connection that listens, which may have come before this incarnation. */
  let listener: Backend | undefined
  /** Others notice sooner that this instance is gone when they know it. */
  const tellListener = Effect.suspend(() =>
    incarnation === undefined || listener === undefined
      ? Effect.void
      : Effect.ignore(ask(statements.listens, [incarnation, listener.pid, listener.startedAt]))
  )

  const begin = Effect.gen(function* () {
    const id = randomUUID()
    const at = steady()
    const before = previous !== undefined && at < previous.until ? previous.id : null
    // Its connections are still in the pools: what would run on them would end with them.
    if (before !== null) yield* options.gone(before)
    const [row] = yield* ask(statements.join, [id, name, leaseMillis, before])
    if (row === undefined) return
    const [time] = yield* decodeMoment(row.slice(0, 1))
    previous = undefined
    learn(at, time)
    incarnation = id
    renewedAt = at
    validUntil = at + leaseMillis
    became(id)
    yield* tellListener
  })

  const end = Effect.gen(function* () {
    yield* LogEvent.warning(
      { event: "lease.lost" },
      "This instance was taken for gone, because its lease was over: what it ran is ended, and others tell what became of it. It goes on as a new one."
    )
    if (incarnation !== undefined) previous = { id: incarnation, until: steady() + leftoverMillis }
    incarnation = undefined
    validUntil = Number.NEGATIVE_INFINITY
    became(undefined)
    yield* lost
  })

  const beat = Effect.fnUntraced(function* (id: string) {
    const at = steady()
    const [row] = yield* ask(statements.beat, [id, leaseMillis, 2 * beatMillis])
    const [there, gone, canceled, isDue, alive, time] = yield* decodeBeat(row)
    learn(at, time)
    if (there === 0) return yield* end
    // What was cut off for so long that others may be, too.
    if (at - renewedAt > 2 * beatMillis + 1000) judgesFrom = at + leaseMillis
    renewedAt = at
    validUntil = at + leaseMillis
    instances = alive
    isAlone = alive === 1
    options.canceled(canceled)
    if (isDue) yield* options.due
    if (at < judgesFrom) return
    yield* Effect.forEach(gone, options.gone, { discard: true })
  })

  yield* Effect.addFinalizer(() =>
    Effect.suspend(() =>
      incarnation === undefined
        ? Effect.void
        : Effect.ignore(Effect.timeout(ask(statements.leave, [incarnation]), "2 seconds"))
    )
  )
  const once = Effect.suspend(() => (incarnation === undefined ? begin : beat(incarnation)))
  const pause = Effect.suspend(() =>
    Effect.sleep(incarnation === undefined ? Duration.min(options.beat, joinAgain) : options.beat)
  )
  yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        Effect.catchCause(once, (cause) =>
          LogEvent.debug({ event: "lease.delayed" }, "The lease of this instance cannot be renewed", cause)
        ),
        pause
      )
    )
  )

  return {
    incarnation: () => incarnation,
    isValid: () => incarnation !== undefined && steady() < validUntil,
    /** Milliseconds since the lease was renewed. */
    lag: () => steady() - renewedAt,
    instances: () => instances,
    /** Another one has come. */
    joined: (): void => {
      isAlone = false
    },
    isAlone: () => isAlone,
    now: () => Math.round(steady() + ahead),
    listens: (backend: Backend | undefined) =>
      Effect.suspend(() => {
        listener = backend ?? listener
        return tellListener
      })
  }
})

export type PgQueryInstance = Effect.Success<ReturnType<typeof make>>
