/**
 * The laws of connections and lifetimes on a network that fails: each of them under each fault, or the reason why that makes
 * no sense. `ConnectionLaws.test.ts` has them on one that works.
 *
 * The witness has a direct connection to the server. After each test the account is even, and the server has no backend of
 * the pool, which was closed while the fault lasted.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "../../src/connection/Connection.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import {
  held,
  type InPool,
  layerOf,
  inWorld,
  layerWorlds,
  nobodyWaitsOrHolds,
  ofKind,
  pid,
  query,
  request,
  running,
  type Settings,
  sleep,
  stats,
  World
} from "../support/connections.ts"

/** What goes wrong, from when on, and what of it a borrower can notice. */
interface Fault {
  /** From the beginning. */
  readonly arrange?: (proxy: FaultProxy.FaultProxy, cancelDelay: number) => Effect.Effect<void>
  /** At the moment that the law is about. Acts on the connections that are open; new ones get through. */
  readonly strike?: (proxy: FaultProxy.FaultProxy) => Effect.Effect<void>
  /** Connections survive being struck. */
  readonly spares: boolean
  /** An interrupted statement's connection serves the next borrower. */
  readonly confirms: boolean
  /** A connection that was struck cannot be reset, which is noticed by asking it. */
  readonly logs?: true
  /** Nothing is wrong but for those who cancel. */
  readonly cancelOnly?: true
}

const faults: Record<string, Fault> = {
  delayed: { arrange: (proxy) => proxy.decide(() => ({ delay: 15 })), spares: true, confirms: true },
  dropped: { strike: (proxy) => proxy.cut, spares: false, confirms: false },
  "black-holed": { strike: (proxy) => proxy.freeze, spares: false, confirms: false, logs: true },
  "only the cancel delayed": {
    arrange: (proxy, delay) => proxy.decideCancels({ delay }),
    spares: true,
    confirms: true,
    cancelOnly: true
  },
  "only the cancel dropped": {
    arrange: (proxy) => proxy.decideCancels("refuse"),
    spares: true,
    confirms: false,
    cancelOnly: true
  },
  "only the cancel black-holed": {
    arrange: (proxy) => proxy.decideCancels("swallow"),
    spares: true,
    confirms: false,
    cancelOnly: true
  }
}

/** Where a law is put to the test. */
interface Place {
  readonly fault: Fault
  readonly strike: Effect.Effect<void>
  readonly proxy: FaultProxy.FaultProxy
  readonly witness: World["Service"]["witness"]
}

interface Law {
  readonly settings?: Settings
  /** So many milliseconds later a delayed cancel arrives. Default: 250, well before the pool gives it up. */
  readonly cancelDelay?: number
  readonly run: (place: Place) => InPool<unknown>
}

/** A lost backend is gone: it was watched for a second, then ended. */
const inTime = "8 seconds"
const silent = ({ witness }: Place) => eventually(witness.busy, (busy) => busy.length === 0, inTime)

/** The pool still does what it is for. */
const works = Effect.map(
  request((sql) => sql`select 1 as one`),
  (rows) => assert.deepStrictEqual(rows, [{ one: 1 }])
)

/** A statement that is running when the fault strikes, and is then interrupted. Its end takes as long as the fault makes it. */
const interrupted = (place: Place, text = sleep, count = 1) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(query(text))
    yield* running(place.witness, text, count)
    const backend = (yield* place.witness.busy).find(({ query }) => query === text)
    yield* place.strike
    const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
    return { fiber, interrupting, id: String(backend?.pid) }
  })

const within = <A, E, R>(millis: number, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const begun = performance.now()
    const result = yield* effect
    assert.isBelow(performance.now() - begun, millis)
    return result
  })

/** Leaves a lock, a setting and a transaction, and is given back when the fault has struck. Tells the backend. */
const dirty = ({ strike, witness }: Place) =>
  request((sql) =>
    Effect.gen(function* () {
      yield* sql`select pg_advisory_lock(42)`
      yield* sql.unsafe("set search_path = pg_catalog").unprepared
      yield* sql.unsafe("begin").unprepared
      return yield* Effect.tap(witness.lockers, () => strike)
    })
  )

/** Leaves a lock, because it was interrupted right after. */
const dirtyAndInterrupted = (place: Place) =>
  Effect.gen(function* () {
    const { interrupting } = yield* interrupted(
      place,
      "do $$ begin perform pg_advisory_lock(42); perform pg_sleep(60); end $$"
    )
    const lockers = yield* place.witness.lockers
    yield* Fiber.join(interrupting)
    return lockers
  })

const laws: Record<string, Law> = {
  "C1 a connection is released exactly once, whatever the exit": {
    settings: { max: 6, resetTimeout: "300 millis" },
    run: (place) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        yield* works
        const go = yield* Latch.make(false)
        const waits = (sql: SqlClient.SqlClient) => Effect.andThen(sql`select 1`, go.await)
        const succeeds = yield* Effect.forkChild(request((sql) => Effect.as(waits(sql), "result")))
        const fails = yield* Effect.forkChild(request((sql) => Effect.andThen(waits(sql), Effect.fail("own failure"))))
        const errs = yield* Effect.forkChild(Effect.andThen(go.await, Effect.timeout(query("select 1/0"), "3 seconds")))
        const late = yield* Effect.forkChild(
          Effect.raceFirst(
            query("select pg_sleep(50)"),
            Effect.andThen(go.await, Effect.timeout(Effect.never, "300 millis"))
          )
        )
        yield* eventually(stats, ({ leased }) => leased === 3)
        const victim = yield* interrupted(place)
        yield* go.open
        assert.deepStrictEqual(yield* Fiber.await(succeeds), Exit.succeed("result"))
        assert.deepStrictEqual(yield* Fiber.await(fails), Exit.fail("own failure"))
        assert.isTrue(Exit.isFailure(yield* Fiber.await(errs)))
        assert.isTrue(Exit.isFailure(yield* Fiber.await(late)))
        yield* Fiber.join(victim.interrupting)
        const connections = ofKind(recorder, "connection")
        assert.deepInclude(connections, { taken: 6, released: 6, onceEach: true })
        yield* nobodyWaitsOrHolds
        yield* silent(place)
        yield* works
      })
  },
  "C2 what is released without the server's acknowledgement stands in the ledger until the server is rid of it": {
    settings: { max: 1 },
    run: (place) =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        yield* works
        const { id, interrupting } = yield* interrupted(place)
        // Asked in this order: of what the account does not name any more, the server runs nothing.
        yield* Effect.gen(function* () {
          const named = (yield* ledger.holdings).some(
            (holding) => holding.id === id && ["connection", "zombie"].includes(holding.kind)
          )
          const runs = (yield* place.witness.busy).some(({ pid, query }) => String(pid) === id && query === sleep)
          assert.isFalse(runs && !named, "given up, running and forgotten")
          return runs
        }).pipe(
          Effect.repeat({
            until: (runs) => !runs && interrupting.pollUnsafe() !== undefined,
            schedule: Schedule.spaced("2 millis")
          })
        )
        yield* request((sql) =>
          Effect.map(pid(sql), (next) => assert.strictEqual(next === id, place.fault.confirms, `${next} after ${id}`))
        )
        yield* eventually(stats, ({ zombies }) => zombies === 0)
      })
  },
  "C3 the next borrower finds a connection as good as new, and the server keeps no lock of the last one": {
    settings: { max: 1, resetTimeout: "1 second" },
    run: (place) =>
      Effect.gen(function* () {
        const [first] = yield* place.fault.cancelOnly ? dirtyAndInterrupted(place) : dirty(place)
        const { next, path } = yield* request((sql) =>
          Effect.gen(function* () {
            const [row] = yield* sql`select current_setting('search_path') as path`
            const next = yield* pid(sql)
            yield* sql.withTransaction(sql`select 1`)
            return { next, path: row?.["path"] }
          })
        )
        assert.deepStrictEqual(
          [path, next === String(first)],
          ['"$user", public', place.fault.cancelOnly ? place.fault.confirms : place.fault.spares]
        )
        yield* eventually(place.witness.lockers, (lockers) => lockers.length === 0, inTime)
        yield* silent(place)
      })
  },
  "C4 a waiter that gives up leaves no trace and costs no slot": {
    settings: { max: 1 },
    run: (place) =>
      Effect.gen(function* () {
        yield* works
        const { interrupting } = yield* interrupted(place)
        const waiter = yield* Effect.forkChild(works, { startImmediately: true })
        yield* within(inTimeOf(700), Fiber.interrupt(waiter))
        assert.deepInclude(yield* stats, { waiting: 0 })
        yield* within(3000, Fiber.join(interrupting))
        yield* nobodyWaitsOrHolds
        yield* works
      })
  },
  "C5 a full pool answers within the acquire timeout, and the ledger names the holders": {
    settings: { max: 1, acquireTimeout: "400 millis", resetTimeout: "300 millis" },
    // The connection must not come back before a busy machine has looked at the time.
    cancelDelay: 3000,
    run: (place) =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        // Opening may take longer than the timeout of this pool.
        yield* Effect.retry(works, Schedule.spaced("10 millis"))
        const holder = place.fault.cancelOnly ? yield* interrupted(place) : yield* held
        yield* place.strike
        const error = yield* within(2000, Effect.flip(works))
        const reason = error._tag === "ConnectionError" ? error.reason : undefined
        assert.deepInclude(reason, { _tag: "AcquireTimeout", max: 1 })
        assert.deepInclude(reason?._tag === "AcquireTimeout" && reason.holders[0], {
          connection: holder.id,
          kind: place.fault.cancelOnly ? "query" : "connection"
        })
        assert.isTrue((yield* ledger.holdings).some(({ id, kind }) => kind === "connection" && id === holder.id))
        yield* "release" in holder ? holder.release : Fiber.join(holder.interrupting)
        yield* eventually(Effect.exit(works), Exit.isSuccess)
      })
  },
  "C6 no statement is ever cancelled on behalf of another": {
    settings: { max: 1 },
    run: (place) =>
      Effect.gen(function* () {
        yield* works
        // It ends by itself, before its cancel arrives: whoever has the backend then must not be hit.
        const guilty = yield* Effect.forkChild(query("select pg_sleep(0.12)")).pipe(
          Effect.tap((fiber) => Effect.raceFirst(running(place.witness, "pg_sleep(0.12)"), Fiber.await(fiber))),
          // On a busy machine it may be over before anybody has seen it.
          Effect.repeat({ until: (fiber) => fiber.pollUnsafe() === undefined })
        )
        yield* place.strike
        yield* Fiber.interrupt(guilty)
        yield* request((sql) => Effect.all([1, 2, 3, 4].map(() => sql`select pg_sleep(0.1)`)))
        yield* silent(place)
      })
  },
  "C7 after closing the pool the server has no backend of ours": {
    settings: { max: 3 },
    run: (place) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const { url } = yield* World
        const through = place.proxy.through(url)
        const context = yield* Layer.buildWithScope(
          layerOf(through, { max: 3, closeTimeout: "50 millis", resetTimeout: "300 millis" }),
          scope
        )
        const idle = Effect.andThen(works, works)
        const borrowers = Effect.all([query(sleep), request((sql) => sql.unsafe(sleep))], { concurrency: "unbounded" })
        yield* Effect.provideContext(idle, context)
        const borrowing = yield* Effect.forkChild(Effect.exit(Effect.provideContext(borrowers, context)))
        yield* running(place.witness, sleep, 2)
        const { interrupting } = yield* Effect.provideContext(interrupted(place, sleep, 3), context)
        yield* within(3500, Scope.close(scope, Exit.void))
        yield* Fiber.join(interrupting)
        assert.isTrue(Exit.isFailure(yield* Fiber.join(borrowing)))
        yield* eventually(place.witness.backends, (all) => all.length === 0, "4 seconds")
      })
  },
  "C8 an error while closing is logged and never replaces the result": {
    settings: { max: 1, resetTimeout: "200 millis" },
    run: (place) =>
      Effect.gen(function* () {
        const lines: Array<unknown> = []
        const logger = Logger.make(({ message }) => lines.push(message))
        for (const outcome of [Effect.succeed("result"), Effect.fail("own failure")]) {
          const exit = yield* Effect.exit(
            request((sql) => sql`select 1`.pipe(Effect.andThen(place.strike), Effect.andThen(outcome)))
          ).pipe(Effect.provide(Logger.layer([logger])))
          assert.deepStrictEqual(exit, yield* Effect.exit(outcome))
          yield* eventually(stats, ({ zombies }) => zombies === 0)
        }
        if (place.fault.logs) assert.match(JSON.stringify(lines), /could not be reset/)
        const recorder = yield* LedgerRecorder.make
        const { fiber, interrupting } = yield* interrupted(place)
        yield* Fiber.join(interrupting)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        if (!place.fault.confirms) assert.strictEqual(ofKind(recorder, "zombie").taken, 1)
        yield* nobodyWaitsOrHolds
        yield* works
      })
  },
  "C9 two requests never share a leased connection": {
    settings: { max: 4, resetTimeout: "300 millis" },
    run: (place) =>
      Effect.gen(function* () {
        const app = yield* Layer.build(Connection.layer)
        const all = yield* Latch.make(false)
        const pids: Array<string> = []
        const { id, interrupting } = yield* interrupted(place)
        const one = Effect.gen(function* () {
          const { id } = yield* Connection.Connection
          assert.strictEqual(yield* Effect.flatMap(SqlClient.SqlClient, pid), id)
          pids.push(id)
          if (pids.length === 2) yield* all.open
          yield* all.await
        }).pipe(Effect.provide(Connection.layer))
        yield* Effect.all([one, one], { concurrency: "unbounded" }).pipe(Effect.provideContext(app))
        assert.strictEqual(new Set(pids).size, 2)
        yield* Fiber.join(interrupting)
        if (!place.fault.confirms) assert.notInclude(pids, id, "lent again although nobody confirmed its cancel")
        yield* silent(place)
      })
  },
  "L1 whoever ends a lifetime returns after the one end": {
    run: (place) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
        yield* Lifetime.fork(session)(query(sleep))
        yield* running(place.witness, sleep)
        yield* place.strike
        const releases = () => recorder.story("session").filter((step) => /^(connection|session) released/.test(step))
        const inside = yield* Lifetime.fork(session)(session.end())
        const callers = yield* Effect.forEach([session.end(), session.ended, session.end()], (call) =>
          Effect.forkChild(Effect.map(call, releases))
        )
        yield* within(
          3500,
          Effect.forEach(callers, (caller) =>
            Effect.map(Fiber.join(caller), (seen) =>
              assert.deepStrictEqual(seen, ["connection released", "session released"])
            )
          )
        )
        assert.isTrue(Exit.isFailure(yield* Fiber.await(inside)))
        yield* silent(place)
      })
  },
  "L2 a parent's end waits for its children's, also for one already ending": {
    run: (place) =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
        const children = yield* Effect.forEach([1, 2], (id) =>
          Effect.gen(function* () {
            const child = yield* Lifetime.child(session, { kind: "child", id: String(id) })
            yield* Lifetime.fork(child)(query(sleep))
            return child
          })
        )
        yield* running(place.witness, sleep, 2)
        yield* place.strike
        yield* children[0]?.begin() ?? Effect.void
        yield* within(3500, session.end())
        const left = (yield* ledger.holdings).filter(({ kind }) => !["backend", "zombie"].includes(kind))
        assert.deepStrictEqual(left, [])
        yield* silent(place)
      })
  },
  "L3 ended children leave nothing in the parent": {
    settings: { max: 5 },
    run: (place) =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const parent = yield* Lifetime.scoped({ kind: "parent", id: "p" })
        const children = yield* Effect.forEach([1, 2, 3, 4, 5], (id) =>
          Effect.gen(function* () {
            const child = yield* Lifetime.child(parent, { kind: "child", id: String(id) })
            yield* Lifetime.fork(child)(query(sleep))
            return child
          })
        )
        yield* running(place.witness, sleep, 5)
        yield* place.strike
        yield* within(
          3500,
          Effect.forEach(children, (child) => child.end(), { concurrency: "unbounded" })
        )
        const finalizers = () => (parent.scope.state._tag === "Open" ? (parent.scope.state.finalizers?.size ?? 1) : 0)
        yield* eventually(Effect.sync(finalizers), (count) => count === 0, "1 second")
        const left = (yield* ledger.holdings).filter(({ kind }) => !["backend", "zombie"].includes(kind))
        assert.deepStrictEqual(
          left.map(({ kind }) => kind),
          ["parent"]
        )
        yield* silent(place)
      })
  }
}

const underFault = (fault: Fault, { cancelDelay = 250, run, settings }: Law) =>
  Effect.gen(function* () {
    const { url, witness } = yield* World
    const { hostname, port } = new URL(Redacted.value(url))
    const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
    yield* fault.arrange?.(proxy, cancelDelay) ?? Effect.void
    yield* run({ fault, proxy, witness, strike: fault.strike?.(proxy) ?? Effect.void }).pipe(
      Effect.scoped,
      Effect.provide(layerOf(proxy.through(url), { closeTimeout: "300 millis", ...settings }))
    )
    yield* LedgerRecorder.assertEmpty()
    yield* eventually(witness.backends, (all) => all.length === 0, "4 seconds")
  }).pipe(inWorld)

layer(layerWorlds, { excludeTestServices: true, concurrent: true })("on a network that fails", (it) => {
  for (const [law, how] of Object.entries(laws)) {
    describe(law, () => {
      for (const [name, fault] of Object.entries(faults)) it.effect(name, () => underFault(fault, how))
    })
  }
})
