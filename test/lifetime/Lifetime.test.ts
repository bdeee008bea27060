import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import { steps, sweep } from "../../src/testing/InterruptSweep.ts"

const scope = Scope.make()

describe("Lifetime", () => {
  it.effect(
    "L1 whoever ends a lifetime, however often and from wherever, also from inside, returns after the one end",
    () =>
      sweep(
        Effect.gen(function* () {
          let ends = 0
          const gate = yield* Deferred.make<void>()
          const lifetime = yield* Lifetime.make(yield* scope, { kind: "test", id: "a" })
          yield* Scope.addFinalizer(
            lifetime.scope,
            Effect.andThen(
              Deferred.await(gate),
              Effect.sync(() => ends++)
            )
          )
          const endsSeen = Effect.map(lifetime.end(), () => ends)
          const inside = yield* Lifetime.fork(lifetime)(lifetime.end())
          const outside = yield* Effect.all([Effect.forkChild(endsSeen), Effect.forkChild(endsSeen)])
          const observer = yield* Effect.forkChild(Effect.map(lifetime.ended, () => ends))
          yield* Effect.yieldNow
          assert.deepStrictEqual([ends, lifetime.isEnding()], [0, true])
          assert.isUndefined(outside[0].pollUnsafe())
          yield* Deferred.succeed(gate, undefined)
          assert.deepStrictEqual(yield* Effect.forEach([...outside, observer], Fiber.join), [1, 1, 1])
          assert.isTrue(
            Exit.isFailure(yield* Fiber.await(inside)),
            "work inside is interrupted by the end it asked for"
          )
          yield* lifetime.end()
          assert.strictEqual(ends, 1)
        })
      )
  )

  it.effect("L1 a caller who gives up waiting leaves the end running", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const lifetime = yield* Lifetime.make(yield* scope, { kind: "test", id: "a" })
      yield* Scope.addFinalizer(lifetime.scope, Deferred.await(gate))
      const caller = yield* Effect.forkChild(lifetime.end(), { startImmediately: true })
      yield* Fiber.interrupt(caller)
      yield* Deferred.succeed(gate, undefined)
      yield* lifetime.ended
    })
  )

  it.effect("L1 whoever asks for the end and is interrupted at any point, the lifetime ends", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.forEach(
          Array.from({ length: 12 }, (_, index) => index),
          (delay) =>
            Effect.gen(function* () {
              const parent = yield* Scope.make()
              const lifetime = yield* Lifetime.make(parent, { kind: "test", id: "a" })
              const caller = yield* Effect.forkChild(
                Effect.provideService(lifetime.end(), Scheduler.MaxOpsBeforeYield, step)
              )
              for (let yields = 0; yields < delay; yields++) yield* Effect.yieldNow
              yield* Fiber.interrupt(caller)
              yield* Scope.close(parent, Exit.void)
              yield* lifetime.ended
            }),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect(
    "L1 a finalizer that asks for the end of its own lifetime, or of one above it, does not wait for itself",
    () =>
      Effect.gen(function* () {
        const outer = yield* Lifetime.make(yield* scope, { kind: "test", id: "outer" })
        const inner = yield* Lifetime.child(outer, { kind: "test", id: "inner" })
        yield* Scope.addFinalizer(inner.scope, inner.end())
        yield* Scope.addFinalizer(inner.scope, outer.end())
        yield* inner.end()
        yield* outer.ended
      })
  )

  it.effect("L1 so does one of a grandchild that asks for the end of them all", () =>
    Effect.gen(function* () {
      const top = yield* Lifetime.make(yield* scope, { kind: "test", id: "top" })
      const middle = yield* Lifetime.child(top, { kind: "test", id: "middle" })
      const low = yield* Lifetime.child(middle, { kind: "test", id: "low" })
      const lowest = yield* Lifetime.child(low, { kind: "test", id: "lowest" })
      for (const lifetime of [top, middle, low, lowest]) yield* Scope.addFinalizer(lowest.scope, lifetime.end())
      const ended = yield* Effect.forkChild(top.end(), { startImmediately: true })
      yield* Effect.repeat(Effect.yieldNow, { times: 100 })
      assert.isDefined(ended.pollUnsafe())
    })
  )

  it.effect("L1 a finalizer that interrupts the fiber it runs in keeps no other from running", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const lifetime = yield* Lifetime.make(yield* scope, { kind: "test", id: "a" })
      const tell = (what: string) => Effect.sync(() => told.push(what))
      yield* Scope.addFinalizer(lifetime.scope, Effect.andThen(Effect.yieldNow, tell("first made")))
      yield* Scope.addFinalizer(
        lifetime.scope,
        Effect.andThen(
          Effect.withFiber((fiber) => Effect.sync(() => fiber.interruptUnsafe())),
          tell("last made")
        )
      )
      yield* lifetime.end()
      assert.deepStrictEqual(told, ["last made", "first made"])
    })
  )

  it.effect("L1 what is told of the end is told before anybody who waits goes on", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const lifetime = yield* Lifetime.make(yield* scope, {
        kind: "test",
        id: "a",
        onEnded: () => told.push("told")
      })
      const waiting = yield* Effect.forkChild(
        Effect.map(lifetime.ended, () => told.push("goes on")),
        { startImmediately: true }
      )
      lifetime.beginUnsafe(Exit.void, Context.empty())
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(told, ["told", "goes on"])
    })
  )

  it.effect(
    "L2 children that do not need each other end side by side, if they are to, and else one after the other",
    () =>
      Effect.gen(function* () {
        const order = (release: "parallel" | "sequential" | undefined) =>
          Effect.gen(function* () {
            const begun: Array<string> = []
            const gate = yield* Deferred.make<void>()
            const parent = yield* Lifetime.make(yield* scope, { kind: "test", id: "parent", release })
            for (const id of ["first", "last"]) {
              const child = yield* Lifetime.child(parent, { kind: "test", id })
              yield* Scope.addFinalizer(
                child.scope,
                Effect.suspend(() => {
                  begun.push(id)
                  return Deferred.await(gate)
                })
              )
            }
            const ending = yield* Effect.forkChild(parent.end(), { startImmediately: true })
            yield* Effect.repeat(Effect.yieldNow, { times: 10 })
            const before = [...begun]
            yield* Deferred.succeed(gate, undefined)
            yield* Fiber.join(ending)
            return before
          })
        assert.sameMembers(yield* order("parallel"), ["first", "last"])
        assert.deepStrictEqual(yield* order("sequential"), ["last"])
        assert.deepStrictEqual(yield* order(undefined), ["last"])
      })
  )

  it.effect("work that a callback forks begins in a turn of its own, and ends with the lifetime", () =>
    Effect.gen(function* () {
      const lifetime = yield* Lifetime.make(yield* scope, { kind: "test", id: "a" })
      let isBegun = false
      const work = Effect.andThen(
        Effect.sync(() => {
          isBegun = true
        }),
        Effect.never
      )
      const fiber = Lifetime.forkUnsafe(lifetime, Context.empty())(work)
      assert.isFalse(isBegun)
      yield* Effect.yieldNow
      assert.isTrue(isBegun)
      yield* lifetime.end()
      assert.isDefined(fiber.pollUnsafe())
    })
  )

  it.effect("L2 a parent's end waits for its children's, also for one already ending", () =>
    sweep(
      Effect.gen(function* () {
        const order: Array<string> = []
        const gate = yield* Deferred.make<void>()
        const parent = yield* Lifetime.make(yield* scope, { kind: "test", id: "parent" })
        yield* Scope.addFinalizer(
          parent.scope,
          Effect.sync(() => order.push("parent"))
        )
        const child = yield* Lifetime.make(parent.scope, { kind: "test", id: "child" })
        yield* Scope.addFinalizer(
          child.scope,
          Effect.andThen(
            Deferred.await(gate),
            Effect.sync(() => order.push("child"))
          )
        )
        const childEnds = yield* Effect.forkChild(child.end(), { startImmediately: true })
        const parentEnds = yield* Effect.forkChild(parent.end(), { startImmediately: true })
        yield* Effect.yieldNow
        assert.isUndefined(parentEnds.pollUnsafe())
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(parentEnds)
        yield* Fiber.join(childEnds)
        assert.deepStrictEqual(order, ["child", "parent"])
      })
    )
  )

  it.effect("L2 a child made under an ended parent is over at once", () =>
    Effect.gen(function* () {
      const parent = yield* Lifetime.make(yield* scope, { kind: "test", id: "parent" })
      yield* parent.end()
      const child = yield* Lifetime.make(parent.scope, { kind: "test", id: "child" })
      const work = yield* Lifetime.fork(child)(Effect.never)
      yield* child.ended
      assert.isTrue(Exit.isFailure(yield* Fiber.await(work)))
    })
  )

  it.effect("L3 a thousand ended children leave nothing in the parent", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const parent = yield* Lifetime.make(yield* scope, { kind: "parent", id: "parent" })
      const before = finalizers(parent.scope)
      for (let n = 0; n < 1000; n++) {
        const child = yield* Lifetime.make(parent.scope, { kind: "child", id: String(n) })
        yield* Lifetime.fork(child)(Effect.never)
        yield* child.end()
      }
      assert.strictEqual(finalizers(parent.scope), before)
      assert.deepStrictEqual(
        (yield* ledger.holdings).map(({ kind }) => kind),
        ["parent"]
      )
      yield* parent.end()
      assert.deepStrictEqual(yield* ledger.holdings, [])
      assert.deepStrictEqual((yield* ledger.totals).get("child"), {
        acquired: 1000,
        released: 1000,
        failed: 0,
        stalled: 0
      })
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("a failing finalizer is counted and logged, and does not keep the end from returning", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => lines.push(String(message)))
      const lifetime = yield* Lifetime.make(yield* scope, { kind: "test", id: "a" })
      yield* Scope.addFinalizer(lifetime.scope, Effect.die("broken"))
      yield* Effect.provide(lifetime.end(), Logger.layer([logger]))
      assert.strictEqual((yield* (yield* Ledger.Ledger).totals).get("test")?.failed, 1)
      assert.strictEqual(lines.length, 1)
      assert.match(lines[0] ?? "", /^Ending test a met a failure,.*broken/s)
    }).pipe(Effect.provide(Ledger.layer))
  )

  it.effect("one that ends with its last child does so at once, also when a callback ends that one", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const parent = yield* Lifetime.make(yield* scope, {
        kind: "test",
        id: "parent",
        endWithLastChild: true,
        onEnding: () => told.push("ending"),
        onEnded: () => told.push("ended")
      })
      yield* Scope.addFinalizer(
        parent.scope,
        Effect.sync(() => told.push("released"))
      )
      const first = yield* Lifetime.child(parent, { kind: "test", id: "first" })
      const last = yield* Lifetime.child(parent, { kind: "test", id: "last" })
      yield* first.end()
      assert.deepStrictEqual(told, [])
      last.beginUnsafe(Exit.void, Context.empty())
      last.beginUnsafe(Exit.void, Context.empty())
      assert.deepStrictEqual(told, ["ending", "released", "ended"])
      yield* parent.ended
    })
  )

  it.effect(
    "one that is held ends when the last holder is done, wherever that is interrupted, and leaves nothing",
    () =>
      sweep(
        Effect.gen(function* () {
          const ledger = yield* Ledger.Ledger
          const parent = yield* Lifetime.make(yield* scope, { kind: "test", id: "parent", endWithLastChild: true })
          const second = yield* Scope.make()
          yield* Lifetime.hold(parent, { kind: "hold", id: "first" })
          yield* Scope.provide(Lifetime.hold(parent, { kind: "hold", id: "second" }), second)
          assert.deepStrictEqual(
            (yield* ledger.held).map(({ holdings, id }) => [id, holdings.map(({ id }) => id)]),
            [["parent", ["first", "second"]]]
          )
          yield* Scope.close(second, Exit.void)
          assert.isFalse(parent.isEnding())
        }).pipe(
          Effect.scoped,
          Effect.andThen(Effect.flatMap(Ledger.Ledger, ({ holdings }) => holdings)),
          Effect.map((left) => assert.deepStrictEqual(left, [])),
          Effect.provide(Ledger.layer)
        )
      )
  )

  it.effect("L2 the end of one that is held waits for what its holders hold", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const gate = yield* Deferred.make<void>()
      const parent = yield* Lifetime.make(yield* scope, { kind: "test", id: "parent", release: "parallel" })
      const holder = yield* Scope.make()
      const onEnd = (released: Effect.Effect<void>) => Effect.andThen(released, Deferred.await(gate))
      yield* Scope.provide(Lifetime.hold(parent, { kind: "hold", id: "a", onEnd }), holder)
      const ended = yield* Effect.forkChild(parent.end(), { startImmediately: true })
      // The holder lets go while the end waits: the end goes on waiting.
      yield* Scope.close(holder, Exit.void)
      assert.isUndefined(ended.pollUnsafe())
      assert.deepStrictEqual(
        (yield* ledger.holdings).map(({ id }) => id),
        ["parent", "a"]
      )
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(ended)
      assert.deepStrictEqual(yield* ledger.holdings, [])
      // Held after the end: over at once.
      yield* Effect.scoped(Lifetime.hold(parent, { kind: "hold", id: "late" }))
      const totals = yield* ledger.totals
      assert.deepStrictEqual(totals.get("hold"), { acquired: 2, released: 2, failed: 0, stalled: 0 })
    }).pipe(Effect.provide(Ledger.layer))
  )
})

const finalizers = (scope: Scope.Scope): number =>
  scope.state._tag === "Open" ? (scope.state.finalizers?.size ?? 1) : 0
