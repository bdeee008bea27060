/** Waiting for conditions instead of for time. */
import { availableParallelism, loadavg } from "node:os"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import { superuserUrl } from "./postgres.ts"

export { eventually } from "../../src/testing/internal/Eventually.ts"

/** So many milliseconds on a machine that has time, and more where more wants to run than there are processors. */
export const inTimeOf = (millis: number): number => {
  const [load = 0] = loadavg()
  return millis * Math.max(1, load / availableParallelism())
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
