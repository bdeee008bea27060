/**
 * What a lease costs, against the pool of the bare driver on the same server: a real PostgreSQL of its own, on the loopback
 * address, nothing synced to disk. The server shares the processors with the client, so only ratios mean something.
 *
 * - *wait*: 100 borrowers share 10 connections and hold one for a statement of 2 ms; how long one waits, 99th percentile.
 * - *lease*: one borrower after another leases, sends `select 1` and gives back; wall and processor time of this process.
 */
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgDriver from "../../src/postgres/internal/PgDriver.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { quantile, range, ratios, takeTurns } from "./measure.ts"

type Lend = Effect.Effect<(sql: string) => Effect.Effect<unknown, unknown>, unknown, Scope.Scope>

const bare = (url: Redacted.Redacted<string>): Effect.Effect<Lend, unknown, Scope.Scope> =>
  Effect.map(PgPool.make({ url, maxConnections: 10 }), (pool) =>
    Effect.map(pool.reserve, (connection) => (sql: string) => connection.query(sql))
  )

const ours = (url: Redacted.Redacted<string>, recycle: PgRecycle.Recipe): Effect.Effect<Lend, unknown, Scope.Scope> =>
  Effect.map(
    Layer.build(ConnectionPool.layer({ max: 10 }).pipe(Layer.provide(PgConnectionSource.layer({ url, recycle })))),
    (context) =>
      Effect.map(Context.get(context, ConnectionPool.ConnectionPool).lease(), ({ services }) => {
        const { pinned } = Context.getUnsafe(services, PgDriver.Pinned)
        return (sql: string) => pinned.query(sql)
      })
  )

const waits = (lend: Lend) => async () => {
  const waited: Array<number> = []
  const borrower = Effect.suspend(() => {
    const asked = performance.now()
    return Effect.scoped(
      Effect.flatMap(lend, (query) => {
        waited.push(performance.now() - asked)
        return query("select pg_sleep(0.002)")
      })
    )
  })
  await Effect.runPromise(
    Effect.forEach(Array.from({ length: 100 }), () => Effect.repeat(borrower, { times: 9 }), {
      concurrency: "unbounded"
    })
  )
  return quantile(waited, 0.99)
}

const leases = (lend: Lend) => async () => {
  const times = 1500
  const cpu = process.cpuUsage()
  const begun = performance.now()
  await Effect.runPromise(
    Effect.repeat(Effect.scoped(Effect.flatMap(lend, (query) => query("select 1"))), { times: times - 1 })
  )
  const { system, user } = process.cpuUsage(cpu)
  return { wall: ((performance.now() - begun) * 1000) / times, cpu: (user + system) / times }
}

const each = <A, B>(record: Readonly<Record<string, A>>, f: (value: A) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value)]))

export const run = async () => {
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const { superuserUrl: url } = await within(TestPostgres.make())
  const contenders = {
    "bare driver": await within(bare(url)),
    "no recipe": await within(ours(url, PgRecycle.none)),
    complete: await within(ours(url, PgRecycle.complete)),
    foreign: await within(ours(url, PgRecycle.foreign))
  }

  const waited = await takeTurns(each(contenders, waits), 9)
  const base = waited.get("bare driver") ?? []
  console.table(
    Array.from(waited, ([name, values]) => ({
      wait: name,
      "p99 ms": range(values),
      "to bare": range(ratios(values, base), 2)
    }))
  )

  const leased = await takeTurns(each(contenders, leases), 9)
  const [walls, cpus] = (["wall", "cpu"] as const).map((kind) => leased.get("bare driver")?.map((it) => it[kind]) ?? [])
  console.table(
    Array.from(leased, ([name, values]) => {
      const wall = values.map(({ wall }) => wall)
      const cpu = values.map(({ cpu }) => cpu)
      return {
        lease: name,
        "wall µs": range(wall, 0),
        "cpu µs": range(cpu, 0),
        "wall to bare": range(ratios(wall, walls ?? []), 2),
        "cpu to bare": range(ratios(cpu, cpus ?? []), 2)
      }
    })
  )
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
