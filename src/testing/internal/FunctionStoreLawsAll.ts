/** The laws of function stores (F3 and F5). */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { FunctionError } from "../../function/FunctionError.ts"
import * as FunctionId from "../../function/FunctionId.ts"
import type { FunctionStore, NewFunction, Room } from "../../function/FunctionStore.ts"
import type { Law } from "./Laws.ts"

interface Instances {
  readonly store: FunctionStore["Service"]
  readonly another: FunctionStore["Service"]
  readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
}

const law = (
  name: string,
  needs: ReadonlyArray<"clock">,
  trial: (instances: Instances) => Effect.Effect<unknown, unknown, Scope.Scope>
): Law<Instances, "clock"> => ({ name, needs, trial })

const room: Room = { functions: 100, bytes: 1024 * 1024 }
const function_ = (more: Partial<NewFunction> = {}): NewFunction => ({
  id: FunctionId.make(),
  principal: "alice",
  language: "javascript",
  title: "a title",
  script: "export default () => 'ü𝄞\u2028'",
  context: `{ "a":  1.50 }`,
  idleTimeout: Duration.hours(1),
  absoluteTimeout: Duration.hours(3),
  ...more
})

const tag = <A>(effect: Effect.Effect<A, FunctionError>) =>
  Effect.match(effect, { onSuccess: () => "found", onFailure: ({ reason }) => reason._tag })

export const laws = [
  law("F3 what was created is found by every instance at once, to the character", [], (world) =>
    Effect.gen(function* () {
      const { another, store } = world
      const created = function_()
      const record = yield* store.create(created, room)
      const { absoluteTimeout: _a, idleTimeout: _i, ...stored } = created
      assert.deepInclude(record, stored)
      assert.deepStrictEqual(yield* another.find("alice", created.id), record)
      assert.deepStrictEqual(yield* another.use("alice", created.id), record)
      assert.strictEqual(
        DateTime.toEpochMillis(record.expiresAt) - DateTime.toEpochMillis(record.createdAt),
        Duration.toMillis("1 hour")
      )
      assert.isTrue(yield* another.end("alice", created.id))
      assert.isFalse(yield* store.end("alice", created.id))
      assert.strictEqual(yield* tag(store.find("alice", created.id)), "FunctionNotFound")
    })
  ),

  law("F3 it is there until its time is up by the store's clock: idle, or in any case", ["clock"], (world) =>
    Effect.gen(function* () {
      const { advance, another, store } = world
      const [used, idle] = [function_(), function_()]
      yield* store.create(used, room)
      yield* store.create(idle, room)
      yield* advance("59 minutes")
      assert.strictEqual(yield* tag(another.use("alice", used.id)), "found")
      assert.strictEqual(yield* tag(another.find("alice", idle.id)), "found")
      yield* advance("3 minutes")
      assert.strictEqual(yield* tag(store.use("alice", used.id)), "found")
      assert.strictEqual(yield* tag(store.find("alice", idle.id)), "FunctionNotFound")
      assert.strictEqual(yield* tag(store.use("alice", idle.id)), "FunctionNotFound")
      yield* advance("55 minutes")
      assert.strictEqual(yield* tag(another.use("alice", used.id)), "found")
      yield* advance("55 minutes")
      const { createdAt, expiresAt } = yield* store.use("alice", used.id)
      const lifetime = DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(createdAt)
      assert.closeTo(lifetime, Duration.toMillis("3 hours"), 1)
      yield* advance("10 minutes")
      assert.strictEqual(yield* tag(store.use("alice", used.id)), "FunctionNotFound")
      assert.deepStrictEqual((yield* store.list("alice")).functions, [])
    })
  ),

  law("what is past its time is removed, and what ended is known", ["clock"], (world) =>
    Effect.gen(function* () {
      const { advance, another, store } = world
      const [live, ended, past] = [
        function_({ absoluteTimeout: Duration.days(9), idleTimeout: Duration.days(9) }),
        function_(),
        function_()
      ]
      yield* Effect.forEach([live, ended, past], (created) => store.create(created, room))
      yield* store.end("alice", ended.id)
      assert.deepStrictEqual(yield* another.endedOf([live.id, ended.id, past.id]), [ended.id])
      yield* advance("5 hours")
      assert.strictEqual(yield* another.prune(100), 1)
      assert.strictEqual(yield* store.prune(100), 0)
      assert.strictEqual(yield* tag(store.find("alice", live.id)), "found")
    })
  ),

  law("F5 a principal finds, lists and ends only its own, and has room for so many", [], (world) =>
    Effect.gen(function* () {
      const { another, store } = world
      const all = [function_(), function_(), function_()]
      for (const created of all) yield* store.create(created, room)
      const [first] = all
      const id = first?.id ?? FunctionId.make()
      assert.strictEqual(yield* tag(another.find("bob", id)), "FunctionNotFound")
      assert.strictEqual(yield* tag(another.use("bob", id)), "FunctionNotFound")
      assert.isFalse(yield* another.end("bob", id))
      assert.deepStrictEqual((yield* another.list("bob")).functions, [])
      const page = yield* another.list("alice", { limit: 2 })
      const rest = yield* another.list("alice", { limit: 2, after: page.next })
      assert.sameMembers(
        [...page.functions, ...rest.functions].map((record) => record.id),
        all.map((created) => created.id)
      )
      assert.strictEqual(rest.next, undefined)
      const full = yield* Effect.flip(store.create(function_(), { ...room, functions: 3 }))
      assert.deepInclude(full.reason, { _tag: "FunctionRejected", limit: "functionsOfPrincipal", count: 3 })
      const long = yield* Effect.flip(store.create(function_({ script: "x".repeat(900) }), { ...room, bytes: 1000 }))
      assert.deepInclude(long.reason, { _tag: "FunctionRejected", limit: "functionBytesOfPrincipal", count: 1000 })
      yield* store.create(function_({ principal: "bob" }), { ...room, functions: 3 })
    })
  )
]
