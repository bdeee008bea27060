/**
 * What the driver's own pool does to those who borrow from it, measured, and ours beside it: each defect is a pair of tests.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { ConnectionPool } from "../../src/connection/ConnectionPool.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import {
  assertOver,
  layerOf,
  inWorld,
  layerWorlds,
  query,
  request,
  running,
  type Settings,
  World
} from "../support/connections.ts"

type Url = Redacted.Redacted<string>
type Test<A, E, R> = (world: World["Service"], proxy: FaultProxy.FaultProxy) => Effect.Effect<A, E, R>

const sleep = "select pg_sleep(6)"

const onNetwork = <A, E, R>(test: Test<A, E, R>) =>
  Effect.gen(function* () {
    const world = yield* World
    const { hostname, port } = new URL(Redacted.value(world.url))
    const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
    return yield* test({ ...world, url: proxy.through(world.url) }, proxy)
  }).pipe(Effect.scoped, inWorld)

const bare = (url: Url, maxConnections = 1) => PgPool.make({ url, maxConnections })

/** Runs a test on our pool, and sees it closed in order. */
const ours = <A, E, R>(settings: Settings, test: Test<A, E, R>) =>
  onNetwork((world, proxy) =>
    Effect.andThen(
      test(world, proxy).pipe(Effect.scoped, Effect.provide(layerOf(world.url, { max: 1, ...settings }))),
      assertOver(world.witness)
    )
  )

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const begun = performance.now()
    return Effect.map(effect, (result) => ({ result, millis: performance.now() - begun }))
  })

/** What the first borrower does, and what the second then sees if it reaches him. */
const left = {
  "a BEGIN left open": {
    leave: ["create table if not exists t (a int)", "begin", "insert into t values (1)"],
    reaches: "select exists (select from t) as reaches"
  },
  "a changed search_path": {
    leave: ["set search_path = pg_catalog"],
    reaches: "select current_setting('search_path') = 'pg_catalog' as reaches"
  },
  "an advisory lock": {
    leave: ["select pg_advisory_lock(42)"],
    reaches: "select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as reaches"
  }
}

layer(layerWorlds, { excludeTestServices: true, concurrent: true })("measured", (it) => {
  describe("What one borrower leaves behind", () => {
    for (const [what, { leave, reaches }] of Object.entries(left)) {
      it.effect(`${what}: the bare driver hands it to the next`, () =>
        onNetwork(({ url, witness }) =>
          Effect.gen(function* () {
            const pool = yield* bare(url)
            yield* Effect.scoped(
              Effect.flatMap(pool.reserve, (connection) =>
                Effect.forEach(leave, (statement) => connection.query(statement, [], false))
              )
            )
            const { rows } = yield* Effect.scoped(Effect.flatMap(pool.reserve, (it) => it.query(reaches, [], false)))
            assert.deepStrictEqual(rows, [{ reaches: true }])
            assert.strictEqual((yield* witness.lockers).length, what === "an advisory lock" ? 1 : 0)
            assert.strictEqual((yield* witness.busy).length, what === "a BEGIN left open" ? 1 : 0)
          })
        )
      )
      it.effect(`${what}: ours does not`, () =>
        ours({}, ({ witness }) =>
          Effect.gen(function* () {
            const setUp = leave.filter((statement) => statement.startsWith("create"))
            yield* request((sql) => Effect.forEach(setUp, (statement) => sql.unsafe(statement).unprepared))
            const rest = leave.filter((statement) => !setUp.includes(statement))
            yield* request((sql) => Effect.forEach(rest, (statement) => sql.unsafe(statement).unprepared))
            assert.deepStrictEqual([yield* witness.lockers, yield* witness.busy], [[], []])
            assert.deepStrictEqual(yield* request((sql) => sql.unsafe(reaches)), [{ reaches: false }])
          })
        )
      )
    }
  })

  describe("How long one waits for a connection", () => {
    it.effect("the bare driver has no acquire timeout", () =>
      onNetwork(({ url }) =>
        Effect.gen(function* () {
          const pool = yield* bare(url)
          yield* pool.reserve
          assert.isTrue(Option.isNone(yield* Effect.timeoutOption(Effect.scoped(pool.reserve), "1 second")))
        })
      )
    )
    it.effect("ours answers in time, and says how many hold one", () =>
      ours({ acquireTimeout: "500 millis" }, () =>
        Effect.gen(function* () {
          const { lease } = yield* ConnectionPool
          yield* lease()
          const { millis, result } = yield* timed(Effect.flip(Effect.scoped(lease())))
          assert.isBelow(millis, 2000)
          assert.match(result.message, /1 of 1 are leased/)
        })
      )
    )
  })

  describe("How many may wait", () => {
    const count = 1100
    const refused = (fibers: ReadonlyArray<Fiber.Fiber<unknown, unknown>>) =>
      fibers.filter((fiber) => fiber.pollUnsafe() !== undefined).length

    it.effect("the bare driver takes them all", () =>
      onNetwork(({ url }) =>
        Effect.gen(function* () {
          const pool = yield* bare(url)
          yield* pool.reserve
          const waiters = yield* Effect.forEach(Array.from({ length: count }), () =>
            Effect.forkChild(Effect.scoped(pool.reserve), { startImmediately: true })
          )
          // Each of them has had its turn many times over.
          yield* Effect.repeat(Effect.yieldNow, { times: 100 })
          assert.strictEqual(refused(waiters), 0)
          yield* Effect.forEach(waiters, Fiber.interrupt, { concurrency: "unbounded", discard: true })
        })
      )
    )
    it.effect("ours refuses the one over the bound at once", () =>
      ours({}, () =>
        Effect.gen(function* () {
          const pool = yield* ConnectionPool
          yield* pool.lease()
          const waiters = yield* Effect.forEach(Array.from({ length: count }), () =>
            Effect.forkChild(Effect.scoped(pool.lease()), { startImmediately: true })
          )
          assert.deepInclude(yield* pool.stats, { leased: 1, waiting: 1000 })
          assert.strictEqual(refused(waiters), 100)
          const error = yield* Effect.flip(Effect.scoped(pool.lease()))
          assert.deepInclude(error.reason, { _tag: "TooManyWaiters", waiting: 1000 })
          yield* Effect.forEach(waiters, Fiber.interrupt, { concurrency: "unbounded", discard: true })
        })
      )
    )
  })

  describe("A cancel that is black-holed", () => {
    it.effect("the bare driver returns after five seconds and leaves the backend running", () =>
      onNetwork(({ url, witness }, proxy) =>
        Effect.gen(function* () {
          const pool = yield* bare(url)
          const fiber = yield* Effect.forkChild(
            Effect.scoped(Effect.flatMap(pool.reserve, (connection) => connection.query("select pg_sleep(8)")))
          )
          yield* running(witness, "pg_sleep(8)")
          yield* proxy.decideCancels("swallow")
          const { millis } = yield* timed(Fiber.interrupt(fiber))
          assert.isAbove(millis, 4500)
          assert.strictEqual(yield* proxy.cancels, 1)
          assert.strictEqual((yield* witness.busy).length, 1)
        })
      )
    )
    it.effect("ours is given up after a second, and its backend ended", () =>
      ours({}, ({ witness }, proxy) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(query(sleep))
          yield* running(witness, sleep)
          yield* proxy.decideCancels("swallow")
          const { millis } = yield* timed(Fiber.interrupt(fiber))
          assert.isBelow(millis, 3000)
          assert.strictEqual(yield* proxy.cancels, 1)
          yield* request((sql) => sql`select 1`)
          yield* eventually(witness.busy, (busy) => busy.length === 0, "8 seconds")
        })
      )
    )
  })

  describe("Closing while somebody does not let go", () => {
    it.effect("the bare driver waits for him without limit", () =>
      onNetwork(({ url, witness }) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const borrower = yield* Scope.make()
          const pool = yield* Scope.provide(bare(url), scope)
          yield* Scope.provide(pool.reserve, borrower)
          const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
          assert.isTrue(Option.isNone(yield* Effect.timeoutOption(Fiber.await(closing), "1500 millis")))
          assert.strictEqual((yield* witness.backends).length, 1)
          yield* Scope.close(borrower, Exit.void)
          yield* Fiber.join(closing)
        })
      )
    )
    it.effect("ours is closed within the deadline and a second", () =>
      onNetwork(({ url, witness }) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const borrower = yield* Scope.make()
          const context = yield* Layer.buildWithScope(layerOf(url, { max: 1, closeTimeout: "100 millis" }), scope)
          yield* Effect.flatMap(ConnectionPool, ({ lease }) => Scope.provide(lease(), borrower)).pipe(
            Effect.provideContext(context)
          )
          const { millis } = yield* timed(Scope.close(scope, Exit.void))
          assert.isBelow(millis, 1900)
          yield* eventually(witness.backends, (backends) => backends.length === 0, "3 seconds")
          yield* Scope.close(borrower, Exit.void)
          yield* assertOver(witness)
        })
      )
    )
  })
})
