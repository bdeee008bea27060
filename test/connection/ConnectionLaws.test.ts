/**
 * The laws of connections and lifetimes on the real server: each of their ways once in peace, and once for every step of the
 * interrupt sweep, in a pool on which a borrower was interrupted at that step. `ConnectionFaults.test.ts` has them on a
 * network that fails.
 *
 * After each run the account is even and the server has no backend left; a witness with a connection of its own says so.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Connection from "../../src/connection/Connection.ts"
import { ConnectionPool } from "../../src/connection/ConnectionPool.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { steps, sweep } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import {
  assertOver,
  held,
  type InPool,
  interruptSometime,
  layerOf,
  nobodyWaitsOrHolds,
  ofKind,
  pid,
  query,
  request,
  running,
  type Settings,
  sleep,
  stats,
  inWorld,
  layerWorlds,
  World
} from "../support/connections.ts"
import { urlOf } from "../support/postgres.ts"

/** A way to put a law to the test: the pool it wants, and what is done and claimed in it. */
interface Way {
  readonly settings?: Settings
  /** It waits for a second, so it takes one step of a sweep only. */
  readonly slow?: true
  /** Where no connection can be had. */
  readonly nowhere?: true
  /** It makes its own pool, because it closes it. Lets `before` happen in that one. */
  readonly alone?: true
  readonly run: (world: World["Service"], before: InPool<unknown>) => InPool<unknown>
}

const idle = (world: World["Service"]) => Effect.map(world.witness.busy, (busy) => assert.deepStrictEqual(busy, []))

const sleeping = (sql: SqlClient.SqlClient) => sql.unsafe(sleep)

/** An exit of one borrower: its connection is released once, and the server becomes idle. */
const exit = (settings: Settings, borrow: (world: World["Service"]) => InPool<unknown>, leases = 1): Way => ({
  settings,
  run: (world) =>
    Effect.gen(function* () {
      const recorder = yield* LedgerRecorder.make
      yield* borrow(world)
      const connections = ofKind(recorder, "connection")
      assert.deepInclude(connections, { taken: leases, released: leases, onceEach: true })
      yield* nobodyWaitsOrHolds
      // Not at once: a connection that is replaced is being opened. C2 has the moment.
      yield* eventually(world.witness.busy, (busy) => busy.length === 0, "3 seconds")
    })
})

const openRegistry = (options?: QueryRegistry.Options) =>
  QueryRegistry.make(options).pipe(Effect.provide(QueryResults.layerMemory()))

const alice = "alice"

const C1: Record<string, Way> = {
  success: exit({}, () => request((sql) => sql`select 1`)),
  "failure of a statement": exit({}, () => Effect.flip(request((sql) => sql`select 1/0`))),
  "failure of the borrower": exit({}, () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* Effect.flip(request(() => Effect.fail("own failure"))), "own failure")
    })
  ),
  "interruption in mid-statement": exit({}, ({ witness }) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(request(sleeping))
      yield* running(witness, sleep)
      yield* Fiber.interrupt(fiber)
    })
  ),
  timeout: exit({}, () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(request((sql) => Effect.timeout(sleeping(sql), "5 millis")))
      assert.deepInclude(error, { _tag: "TimeoutError" })
    })
  ),
  "a statement over the server's time limit": exit({ statementTimeout: "500 millis" }, () =>
    Effect.gen(function* () {
      assert.deepInclude(yield* Effect.flip(request(sleeping)), { _tag: "SqlError" })
    })
  ),
  "failed launch: no connection": {
    nowhere: true,
    settings: { max: 1 },
    run: () =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        for (const _ of [1, 2]) {
          const error = yield* Effect.flip(Effect.scoped((yield* ConnectionPool).lease()))
          assert.strictEqual(error.reason._tag, "Unavailable")
        }
        assert.deepStrictEqual([ofKind(recorder, "connection").taken, ofKind(recorder, "backend").taken], [0, 0])
        yield* nobodyWaitsOrHolds
      })
  },
  "failed launch: what is built on the connection fails": exit({}, () =>
    Effect.gen(function* () {
      const Broken = Layer.effectDiscard(Effect.andThen(SqlClient.SqlClient, Effect.fail("broken")))
      const layer = Layer.provide(Broken, Connection.layer)
      assert.strictEqual(yield* Effect.flip(Effect.scoped(Layer.build(layer))), "broken")
    })
  ),
  "expiry: the connection grew too old": exit({ max: 1, maxLifetime: "30 millis" }, ({ witness }) =>
    Effect.gen(function* () {
      const first = yield* request((sql) => Effect.tap(pid(sql), () => sql`select pg_sleep(0.035)`))
      yield* eventually(witness.backends, (all) => all.every((backend) => String(backend.pid) !== first))
    })
  ),
  "expiry: the connection was idle for too long": exit({ max: 1, idleTimeout: "15 millis" }, ({ witness }) =>
    Effect.gen(function* () {
      yield* request((sql) => sql`select 1`)
      yield* eventually(witness.backends, (all) => all.length === 0)
      assert.deepInclude(yield* stats, { open: 0, idle: 0 })
    })
  ),
  "expiry: the session it belongs to ended": exit({}, ({ witness }) =>
    Effect.gen(function* () {
      const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
      yield* Lifetime.fork(session)(request(sleeping))
      yield* running(witness, sleep)
      yield* session.end()
    })
  ),
  cancel: exit({}, ({ witness }) =>
    Effect.gen(function* () {
      const registry = yield* openRegistry()
      const { id } = yield* registry.submit({ statement: { sql: sleep, params: [] }, principal: alice })
      yield* running(witness, sleep)
      assert.strictEqual((yield* registry.cancel(alice, id)).state, "Canceled")
    })
  ),
  prune: {
    slow: true,
    ...exit({}, () =>
      Effect.gen(function* () {
        const registry = yield* openRegistry({ retention: "5 millis" })
        const { id } = yield* registry.submit({ statement: { sql: "select 1", params: [] }, principal: alice })
        yield* eventually(registry.list(alice), ({ queries }) => queries.length === 0)
        assert.strictEqual((yield* Effect.flip(registry.status(alice, id))).reason._tag, "QueryNotFound")
      })
    )
  },
  "retired by its borrower": exit({ max: 1 }, ({ witness }) =>
    Effect.gen(function* () {
      const lease = yield* held
      yield* lease.retire
      yield* lease.release
      yield* eventually(witness.backends, (all) => all.every((backend) => String(backend.pid) !== lease.id))
    })
  ),
  "shutdown of the pool": {
    alone: true,
    run: (world, before) =>
      Effect.gen(function* () {
        const { borrower, close, recorder } = yield* closing(world, before, { closeTimeout: "5 millis" }, () =>
          request(sleeping)
        )
        yield* running(world.witness, sleep)
        yield* close
        assert.isTrue(Exit.isFailure(yield* Fiber.await(borrower)))
        assert.deepInclude(ofKind(recorder, "connection"), { taken: 1, released: 1, onceEach: true })
      })
  }
}

/** A pool that closes before the test does, with a borrower in it. */
const closing = <A, E>(
  { url }: World["Service"],
  before: InPool<unknown>,
  settings: Settings,
  borrow: () => InPool<A, E>
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(layerOf(url, settings), scope)
    yield* Effect.provideContext(before, context)
    const recorder = yield* LedgerRecorder.make
    const borrower = yield* Effect.forkChild(Effect.scoped(Effect.provideContext(borrow(), context)))
    return { borrower, recorder, close: Scope.close(scope, Exit.void), pool: Context.get(context, ConnectionPool) }
  })

/** The next borrower of the only connection gets the same one, and it works. */
const servesTheNext = (before: string) =>
  request((sql) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* pid(sql), before, "the same connection, not a new one")
      assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
    })
  )

/** Nobody's connection was lost or ended by force meanwhile: the server counts those. */
const goodbyes = <A, E, R>({ witness }: World["Service"], effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const before = yield* witness.sessions
    yield* effect
    assert.deepInclude(yield* witness.sessions, { abandoned: before.abandoned, killed: before.killed })
  })

/** Interrupts a borrower in mid-statement: on return the server has said so, and nobody's connection was closed for it. */
const acknowledged = (text: string, use: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>): Way => ({
  settings: { max: 1 },
  run: (world) =>
    Effect.gen(function* () {
      const first = yield* request(pid)
      const fiber = yield* Effect.forkChild(request(use))
      yield* running(world.witness, text)
      yield* Fiber.interrupt(fiber)
      yield* idle(world)
      yield* servesTheNext(first)
    }).pipe((cancelled) => goodbyes(world, cancelled))
})

const stubborn = `do $$ begin perform pg_sleep(60);
  exception when query_canceled then perform pg_sleep(0.02); raise; end $$`

const C2: Record<string, Way> = {
  "a statement": acknowledged(sleep, sleeping),
  "a statement in a transaction": acknowledged(sleep, (sql) => sql.withTransaction(sleeping(sql))),
  "a stream that is half read": acknowledged("generate_series", (sql) =>
    Stream.runForEach(
      sql.unsafe("select repeat('x', 1000) from generate_series(1, 1000000)").stream,
      () => Effect.never
    )
  ),
  "a statement that takes its time to stop is held for so long": {
    settings: { max: 1 },
    run: (world) =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const first = yield* request(pid)
        const fiber = yield* Effect.forkChild(request((sql) => sql.unsafe(stubborn).unprepared))
        yield* running(world.witness, "query_canceled")
        const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
        let seen = 0
        // Asked in this order: what is free in the account has ended at the server.
        yield* Effect.gen(function* () {
          const free = (yield* ledger.holdings).every(({ kind }) => kind !== "connection")
          const busy = (yield* world.witness.busy).length > 0
          assert.isFalse(free && busy, "released while its statement was running")
          if (!free) seen++
        }).pipe(Effect.repeat({ until: () => interrupting.pollUnsafe() !== undefined }))
        assert.isAbove(seen, 1)
        yield* idle(world)
        yield* servesTheNext(first)
      }).pipe((cancelled) => goodbyes(world, cancelled))
  },
  "a query": {
    settings: { max: 1 },
    run: (world) =>
      Effect.gen(function* () {
        const first = yield* request(pid)
        const recorder = yield* LedgerRecorder.make
        const fiber = yield* Effect.forkChild(query(sleep))
        yield* running(world.witness, sleep)
        yield* Fiber.interrupt(fiber)
        yield* idle(world)
        assert.deepStrictEqual(
          recorder.story("query").filter((step) => step.endsWith("released")),
          ["statement released", "connection released", "query released"]
        )
        yield* servesTheNext(first)
      }).pipe((cancelled) => goodbyes(world, cancelled))
  }
}

/** Everything a borrower can leave behind, in an order in which each succeeds. */
const dirt = [
  "set search_path = pg_catalog",
  "select pg_advisory_lock(42)",
  "create temporary table mine (a int)",
  "listen news",
  "declare c cursor with hold for select 1",
  "prepare mine as select 1",
  "set role pg_monitor",
  "begin",
  "select 1"
]
const leave = (sql: SqlClient.SqlClient) =>
  Effect.forEach(dirt, (statement) => sql.unsafe(statement).unprepared, { discard: true })

const clean = (sql: SqlClient.SqlClient) => sql`select
    current_setting('search_path') as path,
    current_user = session_user as role,
    not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
    to_regclass('pg_temp.mine') is null as tables,
    not exists (select from pg_listening_channels()) as listeners,
    not exists (select from pg_cursors where name = 'c') as cursors,
    not exists (select from pg_prepared_statements where name = 'mine') as statements`
const asNew = {
  path: '"$user", public',
  role: true,
  locks: true,
  tables: true,
  listeners: true,
  cursors: true,
  statements: true
}

const recycled = (
  recycle: PgRecycle.Recipe,
  borrow: (dirty: Effect.Effect<string, unknown, ConnectionPool>, world: World["Service"]) => InPool<unknown>
): Way => ({
  settings: { max: 1, recycle },
  run: (world) =>
    Effect.gen(function* () {
      const { witness } = world
      let first = ""
      const dirty = request((sql) =>
        Effect.gen(function* () {
          first = yield* pid(sql)
          yield* leave(sql)
          assert.deepStrictEqual((yield* witness.lockers).map(String), [first])
          return first
        })
      )
      yield* borrow(dirty, world)
      assert.deepStrictEqual(yield* witness.lockers, [])
      yield* idle(world)
      yield* request((sql) =>
        Effect.gen(function* () {
          assert.strictEqual(yield* pid(sql), first, "the same connection, not a new one")
          assert.deepStrictEqual(yield* clean(sql), [asNew])
          yield* sql.withTransaction(Effect.andThen(sql`select 1`, sql.withTransaction(sql`select 2`)))
          yield* sql.withTransaction(sql`select 3`)
        })
      )
    })
})

const C3: Record<string, Way> = {
  "after a success": recycled(PgRecycle.complete, (dirty) => dirty),
  "after a success, where foreign SQL runs": recycled(PgRecycle.foreign, (dirty) => dirty),
  "after a failure": recycled(PgRecycle.complete, (dirty) => Effect.flip(Effect.andThen(dirty, Effect.fail("failed")))),
  "after an interruption in mid-statement": recycled(PgRecycle.complete, (dirty, { witness }) =>
    Effect.gen(function* () {
      yield* dirty
      const fiber = yield* Effect.forkChild(request((sql) => Effect.andThen(leave(sql), sleeping(sql))))
      yield* running(witness, sleep)
      yield* Fiber.interrupt(fiber)
    })
  ),
  "after an interruption at any moment": recycled(PgRecycle.complete, (dirty) =>
    Effect.gen(function* () {
      yield* interruptSometime(request(leave))
      yield* dirty
    })
  )
}

/** A waiter of a pool that is full gives up in some way; the next one gets the connection when it is free, at once. */
const givesUp = (
  give: (waiter: InPool<unknown>, holder: { readonly release: Effect.Effect<void> }) => InPool<unknown>
): Way => ({
  settings: { max: 1, acquireTimeout: "2 seconds" },
  run: ({ witness }) =>
    Effect.gen(function* () {
      const recorder = yield* LedgerRecorder.make
      const holder = yield* held
      yield* give(
        request((sql) => sql`select 1`),
        holder
      )
      assert.deepInclude(yield* stats, { waiting: 0 })
      yield* holder.release
      yield* nobodyWaitsOrHolds
      assert.strictEqual(yield* request(pid), holder.id)
      assert.strictEqual((yield* witness.backends).length, 1)
      assert.isTrue(ofKind(recorder, "connection").onceEach)
    })
})

const waiting = eventually(stats, ({ waiting }) => waiting === 1)

const C4: Record<string, Way> = {
  "interrupted while it waits": givesUp((waiter) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(waiter)
      yield* waiting
      yield* Fiber.interrupt(fiber)
    })
  ),
  "timed out while it waits": givesUp((waiter) => Effect.flip(Effect.timeout(waiter, "5 millis"))),
  "interrupted just as its turn comes": givesUp((waiter, holder) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(waiter)
      yield* waiting
      yield* Effect.all([holder.release, Fiber.interrupt(fiber)], { concurrency: "unbounded" })
    })
  ),
  "interrupted while its connection is being opened": {
    settings: { max: 2 },
    run: ({ witness }) =>
      Effect.gen(function* () {
        for (const _ of [1, 2, 3]) yield* interruptSometime(request((sql) => sql`select 1`))
        yield* nobodyWaitsOrHolds
        const [one, other] = yield* Effect.all([held, held], { concurrency: "unbounded" })
        yield* eventually(witness.backends, (all) => all.length === 2)
        assert.sameMembers(
          (yield* witness.backends).map(({ pid }) => String(pid)),
          [one.id, other.id]
        )
      })
  }
}

/** What was logged while an effect ran. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make(({ cause, logLevel, message }) => {
      lines.push(`${logLevel} ${JSON.stringify(message)} ${Cause.pretty(cause)}`)
    })
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (result) => ({ lines, result }))
  })

/** Somebody has opened the connection, however long that takes. */
const opened = Effect.retry(
  request((sql) => sql`select 1`),
  Schedule.spaced("1 millis")
)

const C5: Record<string, Way> = {
  "to a borrower": {
    settings: { max: 1, acquireTimeout: "20 millis" },
    run: ({ witness }) =>
      Effect.gen(function* () {
        yield* opened
        const holder = yield* held
        const begun = performance.now()
        const { lines, result } = yield* logged(Effect.flip(Effect.scoped((yield* ConnectionPool).lease())))
        assert.isBelow(performance.now() - begun, inTimeOf(2000))
        assert.deepInclude(result.reason, { _tag: "AcquireTimeout", max: 1 })
        assert.deepInclude("holders" in result.reason && result.reason.holders[0], {
          connection: holder.id,
          owner: "holder"
        })
        assert.isTrue(
          lines.some((line) => line.includes(holder.id) && line.includes("holder")),
          lines.join("\n")
        )
        assert.deepInclude(
          (yield* (yield* Ledger.Ledger).holdings).find(({ kind }) => kind === "connection"),
          { id: holder.id }
        )
        assert.deepStrictEqual(
          (yield* witness.backends).map(({ pid }) => String(pid)),
          [holder.id]
        )
      })
  },
  "to a query, when a query holds it": {
    settings: { max: 1, acquireTimeout: "20 millis" },
    run: ({ witness }) =>
      Effect.gen(function* () {
        yield* opened
        const fiber = yield* Effect.forkChild(query(sleep))
        const [busy] = yield* running(witness, sleep)
        const { lines, result } = yield* logged(Effect.flip(query("select 1")))
        assert.strictEqual(result.reason._tag, "QueriesUnavailable")
        assert.match(result.message, /1 of 1 are leased/)
        assert.notInclude(result.message, String(busy?.pid), "a remote caller learns how many, not who")
        assert.isTrue(
          lines.some((line) => line.includes('"query"') && line.includes(String(busy?.pid))),
          lines.join("\n")
        )
        yield* Fiber.interrupt(fiber)
      })
  }
}

/** Statements of a few milliseconds are interrupted about when they end; the others on their connection must not notice. */
const innocents = (max: number): Way => ({
  settings: { max },
  run: () =>
    Effect.gen(function* () {
      const innocent = request((sql) =>
        Effect.all([sql`select pg_sleep(0.004)`, sql`select pg_sleep(0.002)`, sql`select 1`])
      )
      const guilty = interruptSometime(request((sql) => sql`select pg_sleep(0.004)`))
      yield* Effect.forEach([guilty, innocent, guilty, innocent], (it) => it, { concurrency: "unbounded" })
      yield* nobodyWaitsOrHolds
    })
})

const C6: Record<string, Way> = {
  "on one connection, in turn": innocents(1),
  "on many connections, at once": innocents(3)
}

/** Closes a pool in some state: in time, and then the server has no backend of it. */
const closes = (
  borrow: (closed: Effect.Effect<void>) => InPool<unknown>,
  ready: (world: World["Service"], pool: ConnectionPool["Service"]) => Effect.Effect<unknown, unknown>,
  interrupted = false
): Way => ({
  alone: true,
  run: (world, before) =>
    Effect.gen(function* () {
      const closed = yield* Latch.make()
      const settings = { max: 3, closeTimeout: "10 millis" } as const
      const { borrower, close, pool } = yield* closing(world, before, settings, () => borrow(closed.await))
      yield* ready(world, pool)
      if (interrupted) yield* Effect.forkChild(Fiber.interrupt(borrower), { startImmediately: true })
      const begun = performance.now()
      yield* close
      // The deadline and a second, and room for a machine that is busy.
      assert.isBelow(performance.now() - begun, inTimeOf(2500))
      yield* eventually(world.witness.backends, (all) => all.length === 0, "3 seconds")
      yield* closed.open
      yield* Effect.timeout(Fiber.await(borrower), "3 seconds")
      assert.strictEqual((yield* Effect.flip(Effect.scoped(pool.lease()))).reason._tag, "Closed")
    })
})

const C7: Record<string, Way> = {
  "with idle ones": closes(
    () =>
      Effect.all(
        [1, 2, 3].map(() => request((sql) => sql`select pg_sleep(0.005)`)),
        { concurrency: "unbounded" }
      ),
    (_, pool) => eventually(pool.stats, ({ idle, open }) => open === 3 && idle === 3)
  ),
  "with running statements": closes(
    () =>
      Effect.all([request(sleeping), query(sleep), request((sql) => sql.withTransaction(sleeping(sql)))], {
        concurrency: "unbounded"
      }),
    ({ witness }) => running(witness, sleep, 3)
  ),
  "with a statement that is just being cancelled": closes(
    () => request(sleeping),
    ({ witness }) => running(witness, sleep),
    true
  ),
  "with one that is just being opened": closes(
    () => request((sql) => sql`select 1`),
    () => Effect.void
  ),
  "with a borrower who does not let go": closes(
    (closed) => Effect.andThen(held, Effect.uninterruptible(closed)),
    (_, pool) => eventually(pool.stats, ({ leased }) => leased === 1)
  )
}

const unresettable = PgRecycle.custom([{ name: "broken", sql: "select 1/0", kind: "alone" }])

/** Giving back fails; what the borrower made of it stands. */
const stands = (
  settings: Settings,
  use: (sql: SqlClient.SqlClient, world: World["Service"]) => Effect.Effect<unknown, unknown>
) => {
  const way = (outcome: Effect.Effect<unknown, unknown>): Way => ({
    settings: { max: 1, ...settings },
    run: (world) =>
      Effect.gen(function* () {
        const expected = yield* Effect.exit(outcome)
        const { lines, result } = yield* logged(
          Effect.exit(request((sql) => Effect.andThen(Effect.exit(use(sql, world)), outcome)))
        )
        assert.deepStrictEqual(result, expected)
        assert.isTrue(
          lines.some((line) => line.startsWith("Warn")),
          lines.join("\n")
        )
        yield* nobodyWaitsOrHolds
      })
  })
  return { success: way(Effect.succeed("result")), failure: way(Effect.fail("own failure")) }
}

const failingReset = stands({ recycle: unresettable }, (sql) => sql`select 1`)
const slowReset = stands(
  {
    recycle: PgRecycle.custom([{ name: "slow", sql: "select pg_sleep(60)", kind: "alone" }]),
    resetTimeout: "10 millis"
  },
  (sql) => sql`select 1`
)

const C8: Record<string, Way> = {
  "the reset fails after a success": failingReset.success,
  "the reset fails after a failure": failingReset.failure,
  "the reset does not end in time": slowReset.success,
  "an interruption stays one": {
    settings: { max: 1, recycle: unresettable },
    run: ({ witness }) =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(request(sleeping))
        yield* running(witness, sleep)
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        yield* nobodyWaitsOrHolds
      })
  }
}

/** Requests that are all under way at once: the server sees a backend for each. */
const apart = (
  one: (use: Effect.Effect<void, unknown, Connection.Connection | SqlClient.SqlClient>) => InPool
): Way => ({
  settings: { max: 4 },
  run: ({ witness }) =>
    Effect.gen(function* () {
      const all = yield* Latch.make(false)
      const entered: Array<string> = []
      const use = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { id } = yield* Connection.Connection
        assert.strictEqual(yield* pid(sql), id)
        entered.push(id)
        const number = entered.length
        yield* sql.unsafe(`set application_name = 'request ${number}'`)
        if (number === 4) yield* all.open
        yield* all.await
        const [row] = yield* sql`select current_setting('application_name') as name`
        assert.deepStrictEqual(row, { name: `request ${number}` })
        yield* sql`select pg_sleep(0.005)`
      })
      yield* Effect.all(
        [1, 2, 3, 4].map(() => one(use)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(entered).size, 4)
      assert.sameMembers(
        (yield* witness.backends).map(({ pid }) => String(pid)),
        entered
      )
    })
})

const C9: Record<string, Way> = {
  "each with the layer": apart((use) => Effect.provide(use, Connection.layer)),
  "when the app's graph holds the layer": {
    ...apart((use) => Effect.provide(use, Connection.layer)),
    run: (world) =>
      Effect.gen(function* () {
        const app = yield* Layer.build(Connection.layer)
        const all = yield* Latch.make(false)
        const pids: Array<string> = []
        yield* Effect.all(
          [1, 2, 3].map(() =>
            Effect.gen(function* () {
              const { id } = yield* Connection.Connection
              assert.strictEqual(yield* Effect.flatMap(SqlClient.SqlClient, pid), id)
              pids.push(id)
              if (pids.length === 3) yield* all.open
              yield* all.await
            }).pipe(Effect.provide(Connection.layer))
          ),
          { concurrency: "unbounded" }
        ).pipe(Effect.provideContext(app))
        assert.notInclude(pids, Context.get(app, Connection.Connection).id)
        assert.strictEqual(new Set(pids).size, 3)
        assert.strictEqual((yield* world.witness.backends).length, 4)
      }) as InPool
  }
}

const ended = ["connection released", "session released"]
const releases = (recorder: LedgerRecorder.LedgerRecorder) =>
  recorder.story("session").filter((step) => ended.includes(step))

const L1: Record<string, Way> = {
  "of a lifetime with a running statement": {
    run: (world) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
        yield* Lifetime.fork(session)(request(sleeping))
        yield* running(world.witness, sleep)
        const end = Effect.map(session.end(), () => releases(recorder))
        const inside = yield* Lifetime.fork(session)(session.end())
        yield* Lifetime.within(session)(Effect.addFinalizer(() => session.end()))
        const callers = yield* Effect.all(
          [end, end, Effect.map(session.ended, () => releases(recorder)), end].map((call) => Effect.forkChild(call))
        )
        for (const caller of callers) assert.deepStrictEqual(yield* Fiber.join(caller), ended)
        assert.isTrue(Exit.isFailure(yield* Fiber.await(inside)), "work inside is interrupted by the end it asked for")
        yield* idle(world)
        yield* session.end()
        assert.deepStrictEqual(releases(recorder), ended)
      })
  },
  "also when a caller gives up waiting": {
    run: (world) =>
      Effect.gen(function* () {
        const session = yield* Lifetime.scoped({ kind: "session", id: "s" })
        yield* Lifetime.fork(session)(request(sleeping))
        yield* running(world.witness, sleep)
        yield* interruptSometime(session.end())
        yield* session.end()
        yield* idle(world)
        yield* nobodyWaitsOrHolds
      })
  }
}

const L2: Record<string, Way> = {
  "a session with queries, one of them ending": {
    run: (world) =>
      Effect.gen(function* () {
        const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
        const [one] = yield* Effect.forEach([1, 2], (id) =>
          Effect.gen(function* () {
            const child = yield* Lifetime.child(session, { kind: "query", id: String(id) })
            yield* Lifetime.fork(child)(request((sql) => sql.unsafe(stubborn).unprepared))
            return child
          })
        )
        yield* running(world.witness, "query_canceled", 2)
        yield* one?.begin() ?? Effect.void
        yield* session.end()
        yield* idle(world)
        yield* nobodyWaitsOrHolds
        const held = (yield* (yield* Ledger.Ledger).holdings).map(({ kind }) => kind)
        assert.deepStrictEqual(
          held.filter((kind) => kind !== "backend"),
          []
        )
      })
  }
}

const finalizers = (scope: Scope.Scope): number =>
  scope.state._tag === "Open" ? (scope.state.finalizers?.size ?? 1) : 0

/** A thousand in all, over the steps of a sweep or at once. */
const L3: Record<string, Way> = {
  "every fifth with a connection": {
    settings: { max: 4 },
    run: () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const released = Effect.map(ledger.totals, (totals) => totals.get("child")?.released ?? 0)
        const already = yield* released
        const count = (yield* Scheduler.MaxOpsBeforeYield) > 64 ? 1000 : 17
        const parent = yield* Lifetime.scoped({ kind: "parent", id: "p" })
        const before = finalizers(parent.scope)
        const one = (id: number) =>
          Effect.gen(function* () {
            const child = yield* Lifetime.child(parent, { kind: "child", id: String(id) })
            const use = Effect.flatMap(
              Connection.lease,
              (context) => Context.get(context, SqlClient.SqlClient)`select 1`
            )
            const work = yield* Lifetime.fork(child)(id % 5 === 0 ? use : Effect.void)
            yield* Fiber.join(work)
            yield* child.end()
          })
        yield* Effect.forEach(
          Array.from({ length: count }, (_, id) => id),
          one,
          { concurrency: 4, discard: true }
        )
        yield* eventually(
          Effect.sync(() => finalizers(parent.scope)),
          (count) => count === before,
          "1 second"
        )
        const kinds = (yield* ledger.holdings).map(({ kind }) => kind)
        assert.deepStrictEqual(
          kinds.filter((kind) => kind !== "backend"),
          ["parent"]
        )
        assert.strictEqual((yield* released) - already, count)
      })
  }
}

const laws: Record<string, Record<string, Way>> = {
  "C1 a connection is released exactly once": C1,
  "C2 interrupt, then the server's acknowledgement, then release": C2,
  "C3 a returned connection is as good as new": C3,
  "C4 a waiter that gives up leaves no trace and costs no slot": C4,
  "C5 a full pool answers within the acquire timeout, and log and ledger name the holders": C5,
  "C6 no statement is ever cancelled on behalf of another": C6,
  "C7 after closing the pool the server has no backend of ours": C7,
  "C8 an error while closing is logged and never replaces the result": C8,
  "C9 two requests never share a leased connection": C9,
  "L1 whoever ends a lifetime returns after the one end": L1,
  "L2 a parent's end waits for its children's": L2,
  "L3 a thousand ended children leave nothing in the parent": L3
}

const nobody = Effect.void

/** Somebody who was interrupted in the same pool, wherever the step makes it land. */
const passerBy = interruptSometime(request((sql) => sql.withTransaction(sql`select pg_sleep(0.002)`)))

/** Runs a law, in a pool that is open for all its steps or that it makes itself. */
const hold = (
  { alone, nowhere, run, settings }: Way,
  repeated: (run: InPool<unknown>) => InPool<unknown>,
  before: InPool<unknown>
) =>
  Effect.gen(function* () {
    const world = yield* World
    const url = nowhere === undefined ? world.url : urlOf("no_such_database")
    const inPool = <A, E>(effect: InPool<A, E>) => Effect.provide(Effect.scoped(effect), layerOf(url, settings))
    yield* alone === undefined
      ? inPool(repeated(Effect.andThen(before, run(world, nobody))))
      : Effect.scoped(
          repeated(Effect.andThen(run(world, before), assertOver(world.witness))) as Effect.Effect<
            unknown,
            unknown,
            World | Scope.Scope
          >
        )
    yield* assertOver(world.witness)
  }).pipe(inWorld)

layer(layerWorlds, { excludeTestServices: true, concurrent: true })("on the real server", (it) => {
  for (const [law, ways] of Object.entries(laws)) {
    const quick = Object.keys(ways).filter((name) => ways[name]?.slow === undefined)
    describe(law, () => {
      for (const [name, way] of Object.entries(ways)) {
        const share = way.slow ? { number: 0, of: steps.length } : { number: quick.indexOf(name), of: quick.length }
        const before = way.nowhere ? nobody : passerBy
        it.effect(name, () => hold(way, (run) => run, nobody))
        it.effect(`${name}, under the sweep`, () => hold(way, (run) => sweep(run, { share }), before), 600_000)
      }
    })
  }
})
