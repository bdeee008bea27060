import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../src/lifetime/Ledger.ts"

describe("Ledger", () => {
  for (const releaseLimit of ["none", "3 seconds"] as const) {
    for (const [name, use] of [
      ["a success", Effect.succeed("result")],
      ["a failure", Effect.fail("own failure")]
    ] as const) {
      it.effect(
        `C8 a release that fails after ${name} is logged with what it was, and the result stands (limit: ${releaseLimit})`,
        () =>
          Effect.gen(function* () {
            const lines: Array<string> = []
            const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel} ${String(message)}`))
            const held = Ledger.hold({ kind: "thing", id: "t1", releaseLimit }, Effect.void, () => Effect.die("broken"))
            const exit = yield* Effect.exit(Effect.scoped(Effect.andThen(held, use))).pipe(
              Effect.provide(Logger.layer([logger]))
            )
            assert.deepStrictEqual(exit, yield* Effect.exit(use))
            assert.strictEqual(lines.length, 1)
            assert.match(lines[0] ?? "", /^Warn Releasing thing t1 failed; the result of the work stands,.*broken/s)
            const ledger = yield* Ledger.Ledger
            assert.isEmpty(yield* ledger.holdings)
            assert.strictEqual((yield* ledger.totals).get("thing")?.failed, 1)
          }).pipe(Effect.provide(Ledger.layer))
      )
    }
  }

  it.effect(
    "C8 a release that fails or takes long is logged where whoever acquired it logs, whoever closes the scope",
    () =>
      Effect.gen(function* () {
        const lines: Array<string> = []
        const logger = Logger.make(({ message }) => lines.push(String(message)))
        const scope = yield* Scope.make()
        yield* Effect.all([
          Ledger.hold({ kind: "thing", id: "t1", releaseLimit: "none" }, Effect.void, () => Effect.die("broken")),
          Ledger.hold({ kind: "thing", id: "t2" }, Effect.void, () => Effect.sleep("4 seconds"))
        ]).pipe(Scope.provide(scope), Effect.provide(Logger.layer([logger])))
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(closing)
        assert.strictEqual(lines.length, 2)
        assert.match(lines[0] ?? "", /^Releasing thing t2 takes too long/)
        assert.match(lines[1] ?? "", /^Releasing thing t1 failed/)
        yield* TestClock.adjust("1 second")
      }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect(
    "C1 a release that takes too long leaves a stalled entry, which is struck when it is over, whatever came of it",
    () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const events: Array<string> = []
        ledger.subscribe(({ event }) => events.push(event))
        for (const outcome of [Effect.void, Effect.die("broken")]) {
          events.length = 0
          let forced = 0
          const gate = yield* Deferred.make<void>()
          const onStalled = Effect.sync(() => forced++)
          const held = Ledger.hold({ kind: "thing", id: "t1", onStalled }, Effect.void, () =>
            Effect.andThen(Deferred.await(gate), outcome)
          )
          const closing = yield* Effect.forkChild(Effect.scoped(held), { startImmediately: true })
          yield* TestClock.adjust("2999 millis")
          assert.deepStrictEqual([closing.pollUnsafe(), forced], [undefined, 0])
          yield* TestClock.adjust("1 millis")
          yield* Fiber.join(closing)
          assert.strictEqual(forced, 1)
          assert.deepStrictEqual(
            (yield* ledger.holdings).map(({ state }) => state),
            ["stalled"]
          )
          yield* Deferred.succeed(gate, undefined)
          yield* Effect.repeat(Effect.yieldNow, { times: 10 })
          assert.isEmpty(yield* ledger.holdings)
          assert.deepStrictEqual(events, ["acquired", "stalled", "released"])
        }
        assert.deepStrictEqual((yield* ledger.totals).get("thing"), { acquired: 2, released: 2, failed: 1, stalled: 2 })
      }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("C1 an acquire is not interrupted, and what it obtained is released once", () =>
    Effect.gen(function* () {
      let releases = 0
      const gate = yield* Deferred.make<void>()
      const held = Ledger.hold({ kind: "thing", id: "t1" }, Deferred.await(gate), () => Effect.sync(() => releases++))
      const holder = yield* Effect.forkChild(Effect.scoped(held), { startImmediately: true })
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(holder), { startImmediately: true })
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(interrupting)
      assert.strictEqual(releases, 1)
      const totals = yield* (yield* Ledger.Ledger).totals
      assert.deepInclude(totals.get("thing"), { acquired: 1, released: 1 })
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("an entry that is kept during an effect is gone after it, however it ends", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const kept = Effect.map(ledger.holdings, (holdings) => holdings.map(({ id }) => id))
      const during = Ledger.during({ kind: "thing", id: "t1" })
      assert.deepStrictEqual(yield* during(kept), ["t1"])
      yield* Effect.exit(during(Effect.fail("own failure")))
      yield* Fiber.interrupt(yield* Effect.forkChild(during(Effect.never), { startImmediately: true }))
      assert.deepStrictEqual(yield* kept, [])
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect(
    "a holding whose holder is gone stands at the top of the tree, and one whose holder is there under it",
    () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const [outer, inner] = [yield* Scope.make(), yield* Scope.make()]
        const hold = (id: string) => Ledger.hold({ kind: "thing", id }, Effect.void, () => Effect.void)
        yield* Scope.provide(hold("holder"), outer)
        const [holder] = yield* ledger.holdings
        yield* Effect.provideService(Scope.provide(hold("held"), inner), Ledger.Parent, holder)
        const shown = Effect.map(ledger.held, (tree) =>
          tree.map(({ holdings, id }) => [id, ...holdings.map(({ id }) => id)])
        )
        assert.deepStrictEqual(yield* shown, [["holder", "held"]])
        yield* Scope.close(outer, Exit.void)
        assert.deepStrictEqual(yield* shown, [["held"]])
        yield* Scope.close(inner, Exit.void)
      }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("a listener that throws is dropped, and takes no change from the others", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const told: Array<string> = []
      ledger.subscribe(() => {
        told.push("thrown")
        throw new Error("broken")
      })
      ledger.subscribe(({ event }) => told.push(event))
      yield* Effect.scoped(Ledger.hold({ kind: "thing", id: "t1" }, Effect.void, () => Effect.void))
      assert.deepStrictEqual(told, ["thrown", "acquired", "released"])
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("what was read does not change afterwards, and what is noted twice counts once", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const entry = yield* Effect.withFiber((fiber) => Effect.succeed(ledger.open({ kind: "thing", id: "t1" }, fiber)))
      const [totals, holdings] = [yield* ledger.totals, yield* ledger.holdings]
      ledger.note(entry, "stalled")
      ledger.note(entry, "stalled")
      assert.strictEqual((yield* ledger.totals).get("thing")?.stalled, 1)
      ledger.strike(entry, Exit.void)
      ledger.strike(entry, Exit.void)
      ledger.note(entry, "stalled")
      const after = { acquired: 1, released: 1, failed: 0, stalled: 1 }
      assert.deepStrictEqual((yield* ledger.totals).get("thing"), after)
      assert.deepStrictEqual(totals.get("thing"), { ...after, released: 0, stalled: 0 })
      assert.deepStrictEqual(
        holdings.map(({ id, state }) => [id, state]),
        [["t1", "held"]]
      )
    }).pipe(Effect.provide(Ledger.layer))
  )
})
