/**
 * An ordinary `SqlClient` for a test, over up to ten connections that are opened when they are needed.
 *
 * It lives as long as the scope it was made in. It has no time limits: a test's clock may stand still.
 */
import * as Effect from "effect/Effect"
import * as Pool from "effect/Pool"
import type * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { inRealTime } from "../../embedded/Postmaster.ts"
import * as PgDirect from "../../postgres/internal/PgDirect.ts"
import * as PgDriver from "../../postgres/internal/PgDriver.ts"
import * as PgSqlClient from "../../postgres/internal/PgSqlClient.ts"
import * as PgTarget from "../../postgres/internal/PgTarget.ts"

const runner: PgSqlClient.Runner = { statement: (statement) => statement, stream: (rows) => rows }

/** Makes one for a database, or a sandbox. */
export const make = Effect.fnUntraced(function* (url: Redacted.Redacted<string>) {
  const open = Effect.map(
    PgDirect.connect({ ...PgTarget.of(url).config, applicationName: "SqlClient" }).pipe(inRealTime),
    (connection) => ({
      connection,
      state: PgDriver.watch(connection),
      adapted: PgSqlClient.adapt(connection, runner)
    })
  )
  const pool = yield* Pool.makeWithTTL({ acquire: open, min: 0, max: 10, timeToLive: "1 hour" })
  const taken = Effect.gen(function* () {
    const it = yield* Pool.get(pool)
    yield* Effect.addFinalizer(() => (it.state() === "usable" ? Effect.void : Pool.invalidate(pool, it)))
    return it.adapted
  })
  return yield* SqlClient.make({ acquirer: taken, transactionAcquirer: taken, ...PgSqlClient.dialect })
})
