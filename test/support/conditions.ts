/** Waiting for conditions instead of for time. */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { superuserUrl } from "./postgres.ts"

/** Asks again and again until the answer is right; fails with the last answer when time is up. */
export const eventually = <A, E, R>(
  ask: Effect.Effect<A, E, R>,
  isRight: (answer: A) => boolean,
  within: Duration.Input = "10 seconds"
) => {
  let last: A | undefined
  return ask.pipe(
    Effect.tap((answer) =>
      Effect.sync(() => {
        last = answer
      })
    ),
    Effect.filterOrFail(isRight, () => "not yet" as const),
    // A server that is too busy to answer is asked again, too.
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeoutOrElse({
      duration: within,
      orElse: () => Effect.die(new Error(`Still not so in time; the last answer was ${JSON.stringify(last)}`))
    })
  )
}

/** What the server says about a database's backends that run, or hold a transaction open; its own, such as autovacuum, aside. */
export const busyBackends = (database: string, server = superuserUrl) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: yield* server })
    const { rows } = yield* connection.query(
      "select pid, state, query from pg_stat_activity where datname = $1 and state <> 'idle' and backend_type = 'client backend'",
      [database]
    )
    return rows
  }).pipe(Effect.scoped)

/** How many backends a database has. */
export const backends = (database: string, server = superuserUrl) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: yield* server })
    const { rows } = yield* connection.query(
      "select pid from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
      [database]
    )
    return rows.length
  }).pipe(Effect.scoped)
