/**
 * Hears what is told on a channel (`NOTIFY`), on a connection of its own.
 *
 * The connection is opened with the scope, again whenever it is lost, and closed with it. While there is none, what is told is
 * lost; so each time it is there again, that is said, and readers ask about everything. A connection that answers nothing, as
 * behind a network that is gone, is found out by asking it every few seconds.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as PgOpening from "./PgOpening.ts"
import * as PgOutages from "./PgOutages.ts"
import * as Ledger from "../../lifetime/Ledger.ts"

/** Where to listen, and who hears. */
export interface Options {
  readonly connection: PgConnection.Config & Pick<PgOutages.Use, "url">
  readonly channel: string
  /** How often the connection is asked whether it is there. */
  readonly checkInterval: Duration.Duration
  /** How long it has to answer. */
  readonly answerWithin: Duration.Duration
  /** What the database is of, for the log of outages, and what is listened for. */
  readonly of: string
  readonly hears: string
  /** What the connection is in the ledger. */
  readonly kind: string
  /** Names the database in the ledger. */
  readonly id: string
  readonly told: (notifications: ReadonlyArray<PgConnection.Notification>) => Effect.Effect<unknown>
  /** It listens again, since it was lost or for the first time. */
  readonly listens: (backend: PgOpening.Backend | undefined) => Effect.Effect<unknown>
}

/** Between attempts, in milliseconds, give or take a fifth. */
const shortestWait = 100
const longestWait = 5000

/** Listens until the scope closes. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const outage = yield* PgOutages.source({
    of: options.of,
    url: options.connection.url,
    source: `${options.of}: listener`
  })
  /** Attempts to listen that failed, one after the other. */
  let failed = 0

  /** In a line. */
  const why = (cause: Cause.Cause<unknown>): string => {
    const error = Cause.squash(cause)
    return Cause.hasInterruptsOnly(cause) || Cause.isTimeoutError(error)
      ? `the connection that listens for ${options.hears} did not answer`
      : PgOutages.why(error)
  }

  // Where the network is gone nothing can be taken back, neither a LISTEN nor a question: the connection is closed instead,
  // and before the listener is, which would send an UNLISTEN and wait.
  const listen = Effect.gen(function* () {
    const own = yield* Ledger.hold({ kind: options.kind, id: options.id }, Scope.make(), Scope.close)
    const connection = yield* Scope.provide(PgOpening.make(options.connection), own)
    const bounded = <A>(statement: Effect.Effect<A, SqlError>) =>
      Effect.timeout(PgOpening.orClose(own, statement), options.answerWithin)
    const pinned = yield* connection.pin
    const scope = yield* Effect.scope
    const notifications = yield* bounded(Scope.provide(pinned.listen(options.channel), scope))
    yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
    failed = 0
    yield* options.listens(PgOpening.backendOf(connection))
    yield* Effect.raceFirst(
      Stream.runForEachArray(Stream.fromQueue(notifications), options.told),
      Effect.repeat(
        Effect.tap(bounded(pinned.query("select 1")), outage.recovered),
        Schedule.spaced(options.checkInterval)
      )
    )
  }).pipe(Effect.scoped)

  const again = Effect.gen(function* () {
    const exit = yield* Effect.exit(listen)
    if (Exit.isFailure(exit)) yield* outage.failed(why(exit.cause))
    const wait = Math.min(shortestWait * 2 ** failed, longestWait)
    failed++
    yield* Effect.sleep(Duration.millis(yield* Random.nextBetween(wait * 0.8, wait * 1.2)))
  })
  yield* Effect.forkScoped(Effect.forever(again))
})
