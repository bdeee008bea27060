/**
 * How long closing takes while a thousand queries run, on a real PostgreSQL of its own that takes as many connections: from the
 * close of the registry's and the pool's scope until it returns, `drain` (half a second) included, and the backends that the server has then.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"

const count = Number(process.env.HOLDFAST_BENCH_QUERIES ?? "1000")
const principal = "bench"
const statement = { sql: "select pg_sleep(600)", params: [] }
const backends =
  "select count(*)::int from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"

const measure = Effect.gen(function* () {
  const { superuserUrl: url } = yield* TestPostgres.make({ maxConnections: count + 50 })
  const observer = yield* PgConnection.make({ url, applicationName: "bench" })
  const scope = yield* Scope.make()
  const queries = QueryRegistry.layer({ maxRunning: count, reservedRunning: 0 }).pipe(
    Layer.provide([QueryResults.layerMemory(), PgQueryDriver.layer]),
    Layer.provide(ConnectionPool.layer({ max: count, acquireTimeout: "2 minutes" })),
    Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign }))
  )
  const registry = Context.get(yield* Layer.buildWithScope(queries, scope), QueryRegistry.QueryRegistry)
  const begin = Effect.flatMap(registry.submit({ statement, principal }), ({ id }) =>
    Stream.runDrain(Stream.takeUntil(registry.events(principal, id), ({ record }) => record.state === "Running"))
  )
  yield* Effect.all(
    Array.from({ length: count }, () => begin),
    { concurrency: "unbounded", discard: true }
  )
  const begun = performance.now()
  const since = () => ((performance.now() - begun) / 1000).toFixed(2)
  yield* Scope.close(scope, Exit.void)
  const closed = since()
  const left = Effect.map(observer.queryValues(backends, [], false), ([row]) => Number(row?.[0]))
  const atOnce = yield* left
  yield* Effect.repeat(left, { until: (n) => n === 0 })
  console.log(`closed in ${closed} s with ${count} queries running; backends then: ${atOnce}; none after ${since()} s`)
})

export const run = () => Effect.runPromise(Effect.scoped(measure))
