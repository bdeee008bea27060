/**
 * The law of connections that die without a word: a firewall, a NAT or a failover drops all bytes of the connections that are
 * open, closes none of them, and lets new ones through.
 *
 * After each test the account is even, and the server has no backend of the pool.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgConnectionPool from "../../src/postgres/PgConnectionPool.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually } from "../support/conditions.ts"
import {
  held,
  type InPool,
  inWorld,
  layerOf,
  layerWorlds,
  query,
  request,
  running,
  type Settings,
  stats,
  World
} from "../support/connections.ts"

interface Place {
  readonly proxy: FaultProxy.FaultProxy
  readonly witness: World["Service"]["witness"]
}

const behindProxy = <A, E>(settings: Settings, test: (place: Place) => InPool<A, E>) =>
  Effect.gen(function* () {
    const { url, witness } = yield* World
    const { hostname, port } = new URL(Redacted.value(url))
    const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
    yield* test({ proxy, witness }).pipe(
      Effect.scoped,
      Effect.provide(layerOf(proxy.through(url), { closeTimeout: "300 millis", ...settings }))
    )
    yield* LedgerRecorder.assertEmpty()
    yield* eventually(witness.backends, (all) => all.length === 0, "4 seconds")
  }).pipe(inWorld)

const works = Effect.map(
  request((sql) => sql`select 1 as one`),
  (rows) => assert.deepStrictEqual(rows, [{ one: 1 }])
)

/** So many seconds pass in which nobody uses the pool. */
const unused = (seconds: number) => Effect.sleep(`${seconds} seconds`)

const within = <A, E, R>(most: number, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const begun = performance.now()
    const result = yield* effect
    const took = (performance.now() - begun) / 1000
    assert.isBelow(took, most)
    return result
  })

/** Opens all the connections that the pool may have, however long that takes, and leaves them idle. */
const fill = (count: number) =>
  Effect.andThen(
    Effect.retry(
      Effect.scoped(Effect.forEach(Array.from({ length: count }), () => held, { concurrency: "unbounded" })),
      { times: 10 }
    ),
    eventually(stats, ({ idle }) => idle === count)
  )

layer(layerWorlds, { excludeTestServices: true, concurrent: true })(
  "C10 a connection that dies without a word is noticed, running or idle, within 15 s, and condemns its like, not the pool",
  (it) => {
    describe("idle", () => {
      for (const count of [1, 10]) {
        it.effect(`the next statement succeeds within 5 s when ${count} of ${count} connections are dead`, () =>
          behindProxy({ max: count }, ({ proxy }) =>
            Effect.gen(function* () {
              yield* fill(count)
              yield* unused(1.5)
              yield* proxy.swallowOpen
              yield* within(5, works)
              // Those of the same age went with the first.
              yield* within(
                2.5,
                Effect.all(
                  Array.from({ length: count }, () => works),
                  { concurrency: "unbounded" }
                )
              )
            })
          )
        )
      }

      it.effect("a borrower that waits for less than the check takes does not put it back", () =>
        behindProxy({ max: 2, acquireTimeout: "1 second" }, ({ proxy }) =>
          Effect.gen(function* () {
            yield* fill(2)
            yield* unused(1.5)
            yield* proxy.swallowOpen
            yield* within(5, eventually(Effect.exit(works), Exit.isSuccess))
          })
        )
      )

      it.effect("it is closed although nobody asks for a connection", () =>
        behindProxy({ max: 3, min: 3, checkAfterIdle: "1 second" }, ({ proxy }) =>
          Effect.gen(function* () {
            yield* fill(3)
            yield* proxy.swallowOpen
            yield* within(
              15,
              eventually(stats, ({ zombies }) => zombies > 0, "20 seconds")
            )
            yield* within(
              5,
              eventually(stats, ({ idle, zombies }) => idle === 3 && zombies === 0)
            )
          })
        )
      )
    })

    describe("running", () => {
      const isOver = (run: InPool<unknown>) =>
        behindProxy({ max: 3 }, ({ proxy, witness }) =>
          Effect.gen(function* () {
            const fiber = yield* Effect.forkChild(Effect.exit(run))
            yield* running(witness, "pg_sleep(7)")
            yield* proxy.swallowOpen
            const exit = yield* within(15, Fiber.join(fiber))
            assert.isTrue(Exit.isFailure(exit) && !Cause.hasInterrupts(exit.cause), String(exit))
            yield* within(5, works)
          })
        )
      it.effect("a statement of a lease is over, with an error", () =>
        isOver(request((sql) => sql`select pg_sleep(7), pg_sleep(0.1)`))
      )
      it.effect("a query is over, with an error", () => isOver(query("select pg_sleep(7), pg_sleep(0.1)")))

      it.effect("a statement that never reached the server is over, with an error", () =>
        behindProxy({ max: 1 }, ({ proxy }) =>
          Effect.gen(function* () {
            yield* works
            yield* Effect.scoped(
              Effect.gen(function* () {
                const { sql } = yield* held
                const client = yield* sql
                yield* client`select 1`
                yield* proxy.swallowOpen
                const exit = yield* within(15, Effect.exit(client`select 2`))
                assert.isTrue(Exit.isFailure(exit))
              })
            )
            yield* within(5, works)
          })
        )
      )

      it.effect("one whose backend was ended meanwhile is over, with an error", () =>
        behindProxy({ max: 1 }, ({ proxy, witness }) =>
          Effect.gen(function* () {
            const fiber = yield* Effect.forkChild(Effect.exit(query("select pg_sleep(600)")))
            yield* running(witness, "pg_sleep(600)")
            yield* proxy.swallowOpen
            for (const { pid } of yield* witness.busy) yield* witness.terminate(pid)
            assert.isTrue(Exit.isFailure(yield* within(15, Fiber.join(fiber))))
          })
        )
      )

      it.effect("one that the server still runs is left alone, however long it takes", () =>
        behindProxy({ max: 2 }, ({ witness }) =>
          Effect.gen(function* () {
            const before = yield* witness.sessions
            const [rows, row] = yield* Effect.all(
              [query("select 1 from pg_sleep(20)"), request((sql) => sql`select 1 as one from pg_sleep(20)`)],
              { concurrency: 2 }
            )
            assert.strictEqual(rows.length, 1)
            assert.deepStrictEqual(row, [{ one: 1 }])
            assert.strictEqual((yield* witness.sessions).killed, before.killed)
          })
        )
      )
    })

    describe("shared", () => {
      const behind = (test: (place: Place, sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>) =>
        Effect.gen(function* () {
          const { url, witness } = yield* World
          const { hostname, port } = new URL(Redacted.value(url))
          const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
          yield* Effect.flatMap(SqlClient.SqlClient, (sql) => test({ proxy, witness }, sql)).pipe(
            Effect.provide(Layer.fresh(PgConnectionPool.layer({ url: proxy.through(url), max: 1 })))
          )
          yield* eventually(witness.backends, (all) => all.length === 0, "4 seconds")
        }).pipe(inWorld)

      it.effect("the next statement of the shared client succeeds within 5 s", () =>
        behind(({ proxy }, sql) =>
          Effect.gen(function* () {
            const slow = Effect.all(
              [1, 2, 3, 4].map(() => sql`select pg_sleep(0.02)`),
              { concurrency: "unbounded" }
            )
            yield* slow
            yield* unused(1.5)
            yield* proxy.swallowOpen
            assert.deepStrictEqual(yield* within(5, sql`select 1 as one`), [{ one: 1 }])
            yield* within(1, slow)
          })
        )
      )

      it.effect("a statement of the shared client that runs is over, with an error", () =>
        behind(({ proxy, witness }, sql) =>
          Effect.gen(function* () {
            const fiber = yield* Effect.forkChild(Effect.exit(sql`select pg_sleep(7), pg_sleep(0.1)`))
            yield* running(witness, "pg_sleep(7)")
            yield* proxy.swallowOpen
            assert.isTrue(Exit.isFailure(yield* within(15, Fiber.join(fiber))))
            yield* within(5, sql`select 1`)
          })
        )
      )

      it.effect("a server that is gone for good holds up neither a statement nor the end of the client", () =>
        within(
          15,
          behind(({ proxy, witness }, sql) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.forkChild(Effect.exit(sql`select pg_sleep(7), pg_sleep(0.1)`))
              yield* running(witness, "pg_sleep(7)")
              yield* proxy.decide(() => "refuse")
              yield* proxy.cut
              assert.isTrue(Exit.isFailure(yield* within(5, Fiber.join(fiber))))
            })
          )
        )
      )

      it.effect("one that the server still runs is left alone", () =>
        behind((_, sql) =>
          Effect.map(sql`select 1 as one from pg_sleep(12)`, (rows) => assert.deepStrictEqual(rows, [{ one: 1 }]))
        )
      )
    })
  }
)
