/**
 * What a database role for each user costs, against one role for all: the same pool of 20 connections, on a real PostgreSQL of its
 * own on the loopback address, nothing synced to disk. The server shares the processors with the client, so only ratios mean
 * something.
 *
 * - *1,000 users*: each leases once and sends a statement of 2 ms, all at the same moment. Nearly every lease needs a connection of
 *   its own. How long one waits, 99th percentile; statements and new connections a second.
 * - *15 users*: each leases 40 times, one after another. There is room for a connection of each.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import { ConnectionSource } from "../../src/connection/ConnectionSource.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as PgDriver from "../../src/postgres/internal/PgDriver.ts"
import * as PgScram from "../../src/postgres/internal/PgScram.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { quantile, range, ratios, takeTurns } from "./measure.ts"

const max = 20
const users = Array.from({ length: 1000 }, (_, at) => `bench_${at}`)
const password = Redacted.make("0123456789abcdef0123456789abcdef0123456789a")

/** A pool, and how many connections it has opened so far. */
const poolOf = (url: Redacted.Redacted<string>) =>
  Effect.gen(function* () {
    const login = (username: string) => ({ username, password })
    const source = PgConnectionSource.layer({ url, recycle: PgRecycle.foreign, login })
    let opened = 0
    const counting = Layer.effect(
      ConnectionSource,
      Effect.map(ConnectionSource, ({ name, open }) => ({
        name,
        open: Effect.tap(open, () => Effect.sync(() => opened++))
      }))
    )
    const options = { max, maxWaiting: 2000, acquireTimeout: "5 minutes" } as const
    const context = yield* Layer.build(
      ConnectionPool.layer(options).pipe(Layer.provide(counting), Layer.provide(source))
    )
    return { pool: Context.get(context, ConnectionPool.ConnectionPool), opened: () => opened }
  })

type Measured = Effect.Success<ReturnType<typeof poolOf>>

/** Some users, each with so many statements; as roles of their own, or as the one of the URL. */
const work =
  ({ opened, pool }: Measured, some: ReadonlyArray<string>, times: number, own: boolean) =>
  async () => {
    const waited: Array<number> = []
    const statement = (user: string) =>
      Effect.suspend(() => {
        const asked = performance.now()
        return Effect.scoped(
          Effect.flatMap(pool.lease({ key: user, ...(own && { role: user }) }), ({ services }) => {
            waited.push(performance.now() - asked)
            return Context.getUnsafe(services, PgDriver.Pinned).pinned.query("select pg_sleep(0.002)")
          })
        )
      })
    const [before, begun] = [opened(), performance.now()]
    await Effect.runPromise(
      Effect.forEach(some, (user) => Effect.repeat(statement(user), { times: times - 1 }), {
        concurrency: "unbounded",
        discard: true
      })
    )
    const seconds = (performance.now() - begun) / 1000
    return {
      wait: quantile(waited, 0.99),
      rate: (some.length * times) / seconds,
      connects: (opened() - before) / seconds
    }
  }

const roles = `do $$ begin for i in 0..999 loop
  execute format('create role %I login password %L', 'bench_' || i, '${PgScram.verifier(password)}');
end loop; end $$`

export const run = async () => {
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const { superuserUrl: url } = await within(TestPostgres.make())
  await within(Effect.flatMap(PgConnection.make({ url }), (connection) => connection.query(roles)))
  const pool = await within(poolOf(url))
  for (const [title, some, times] of [
    ["1,000 users", users, 1],
    ["15 users", users.slice(0, 15), 40]
  ] as const) {
    const contenders = { shared: work(pool, some, times, false), "per user": work(pool, some, times, true) }
    const measured = await takeTurns(contenders, 5)
    const of = (name: string, what: "wait" | "rate" | "connects") =>
      (measured.get(name) ?? []).map((each) => each[what])
    console.table(
      Object.keys(contenders).map((name) => ({
        [title]: name,
        "wait p99 ms": range(of(name, "wait")),
        "statements/s": range(of(name, "rate"), 0),
        "connects/s": range(of(name, "connects"), 0),
        "wait to shared": range(ratios(of(name, "wait"), of("shared", "wait")), 2),
        "statements to shared": range(ratios(of(name, "rate"), of("shared", "rate")), 2)
      }))
    )
  }
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
