/**
 * What the registry costs, on a real PostgreSQL of its own, on the loopback address, nothing synced to disk. The server shares
 * the processors with the client, so only ratios mean something.
 *
 * - *select 1*: processor time of this process for one statement after another, with the same reset of the connection after
 *   each: leased from the pool and sent by the driver's own call; opened and executed through `QueryDriver`, which tells the
 *   server the query's id and takes the rows as text; submitted to the registry and awaited. What the reset takes is shown by
 *   the same lease without one.
 * - *cancel*: from the interruption of a statement that sleeps, by its fiber on the bare driver's pool and on a lease, by a
 *   cancel in the registry, until the next statement may be sent, when there is one connection.
 */
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgDriver from "../../src/postgres/internal/PgDriver.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { quantile, range, ratios, takeTurns } from "./measure.ts"

type Once = Effect.Effect<unknown, unknown>

const statement = { sql: "select 1", params: [] }
const sleep = "select pg_sleep(60)"
const principal = "bench"

const world = (url: Redacted.Redacted<string>, recycle: PgRecycle.Recipe, max: number) =>
  Layer.build(
    QueryRegistry.layer({ maxRunning: max, reservedRunning: 0, retention: "1 second" }).pipe(
      Layer.provideMerge([QueryResults.layerMemory(), PgQueryDriver.layer]),
      Layer.provideMerge(ConnectionPool.layer({ max })),
      Layer.provide(PgConnectionSource.layer({ url, recycle }))
    )
  )

const leased = (pool: ConnectionPool.ConnectionPool["Service"], sql: string): Once =>
  Effect.scoped(
    Effect.flatMap(pool.lease(), ({ services }) => Context.getUnsafe(services, PgDriver.Pinned).pinned.query(sql))
  )

const driven = (driver: QueryDriver["Service"]): Once =>
  Effect.scoped(
    Effect.flatMap(driver.open, ({ execute }) =>
      execute(
        statement,
        { columns: () => Effect.void, rows: () => Effect.void },
        { id: QueryId.make(), onDone: () => {}, onGivenUp: () => {} }
      )
    )
  )

const registered = (registry: QueryRegistry.QueryRegistry["Service"]): Once =>
  Effect.flatMap(registry.submit({ statement, principal }), ({ id }) => registry.await(principal, id))

const cpuOf = (once: Once) => async () => {
  const times = 3000
  const cpu = process.cpuUsage()
  await Effect.runPromise(Effect.repeat(once, { times: times - 1 }))
  const { system, user } = process.cpuUsage(cpu)
  return (user + system) / times
}

/** From the cancel to the answer of the next statement, in milliseconds; the 99th percentile of some. */
const cancels = (round: Effect.Effect<number, unknown>) => async () => {
  const waited: Array<number> = []
  await Effect.runPromise(
    Effect.repeat(
      Effect.map(round, (millis) => waited.push(millis)),
      { times: 199 }
    )
  )
  return { p50: quantile(waited, 0.5), p99: quantile(waited, 0.99) }
}

/** The moment in which a connection is there; what giving it back takes is no part of it. */
const had = <A, E>(connection: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.scoped(Effect.map(connection, () => performance.now()))

const timed = (cancel: Once, usable: Effect.Effect<number, unknown>) =>
  Effect.suspend(() => {
    const begun = performance.now()
    return Effect.map(Effect.andThen(cancel, usable), (at) => at - begun)
  })

/** Long enough for the statement to be under way: what is measured is its cancel. */
const underWay = Effect.sleep("5 millis")

const interruption = (query: Once, usable: Effect.Effect<number, unknown>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(query)
    yield* underWay
    return yield* timed(Fiber.interrupt(fiber), usable)
  })

const bare = (pool: PgPool.PgPool) =>
  interruption(Effect.scoped(Effect.flatMap(pool.reserve, (connection) => connection.query(sleep))), had(pool.reserve))

const registryCancel = (
  registry: QueryRegistry.QueryRegistry["Service"],
  pool: ConnectionPool.ConnectionPool["Service"]
) =>
  Effect.gen(function* () {
    const { id } = yield* registry.submit({ statement: { sql: sleep, params: [] }, principal })
    yield* Stream.runDrain(Stream.takeUntil(registry.events(principal, id), ({ record }) => record.state === "Running"))
    yield* underWay
    return yield* timed(registry.cancel(principal, id), had(pool.lease()))
  })

export const run = async () => {
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const { superuserUrl: url } = await within(TestPostgres.make())
  const ours = await within(world(url, PgRecycle.foreign, 10))
  const unreset = await within(world(url, PgRecycle.none, 10))

  const cpus = await takeTurns(
    {
      "lease, no reset": cpuOf(leased(Context.get(unreset, ConnectionPool.ConnectionPool), statement.sql)),
      "lease, reset": cpuOf(leased(Context.get(ours, ConnectionPool.ConnectionPool), statement.sql)),
      driver: cpuOf(driven(Context.get(ours, QueryDriver))),
      registry: cpuOf(registered(Context.get(ours, QueryRegistry.QueryRegistry)))
    },
    15,
    2
  )
  const [lease, driver] = ["lease, reset", "driver"].map((name) => cpus.get(name) ?? [])
  console.table(
    Array.from(cpus, ([name, values]) => ({
      "select 1": name,
      "cpu µs": range(values, 0),
      "to lease": range(ratios(values, lease ?? []), 2),
      "to driver": range(ratios(values, driver ?? []), 2)
    }))
  )

  const one = await within(world(url, PgRecycle.foreign, 1))
  const pool = Context.get(one, ConnectionPool.ConnectionPool)
  const canceled = await takeTurns(
    {
      "bare driver": cancels(bare(await within(PgPool.make({ url, maxConnections: 1 })))),
      lease: cancels(interruption(leased(pool, sleep), had(pool.lease()))),
      registry: cancels(registryCancel(Context.get(one, QueryRegistry.QueryRegistry), pool))
    },
    5
  )
  const base = canceled.get("bare driver") ?? []
  console.table(
    Array.from(canceled, ([name, values]) => {
      const p99 = values.map(({ p99 }) => p99)
      return {
        cancel: name,
        "p50 ms": range(values.map(({ p50 }) => p50)),
        "p99 ms": range(p99),
        "p99 to bare": range(
          ratios(
            p99,
            base.map(({ p99 }) => p99)
          ),
          2
        )
      }
    })
  )
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
