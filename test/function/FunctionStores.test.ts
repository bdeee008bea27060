import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import type { FunctionError } from "../../src/function/FunctionError.ts"
import * as FunctionId from "../../src/function/FunctionId.ts"
import { FunctionStore } from "../../src/function/FunctionStore.ts"
import * as MemoryFunctionStore from "../../src/function/MemoryFunctionStore.ts"
import * as FunctionStoreLaws from "../../src/testing/FunctionStoreLaws.ts"
import * as PgFunctionStore from "../../src/postgres/PgFunctionStore.ts"
import { clockDatabase } from "../support/storeClocks.ts"

FunctionStoreLaws.run(
  Layer.effect(
    FunctionStoreLaws.World,
    Effect.map(MemoryFunctionStore.make, (store) => ({ store, another: store, advance: TestClock.adjust }))
  ),
  { name: "functions in memory", clock: "test" }
)

const instance = (options: PgFunctionStore.Options) =>
  Effect.map(Layer.build(Layer.fresh(PgFunctionStore.layer(options))), (context) => Context.get(context, FunctionStore))

const pgWorld = Effect.gen(function* () {
  const { advance, by, connection, url } = yield* clockDatabase
  // Instances that start together make the table once.
  yield* Effect.all([PgFunctionStore.migrate({ url }), PgFunctionStore.migrate({ url })], { concurrency: 2 })
  const store = yield* instance({ url: by("Asia/Tokyo") })
  const another = yield* instance({ url: by("America/New_York") })
  return { store, another, advance, connection }
})

FunctionStoreLaws.run(Layer.effect(FunctionStoreLaws.World, pgWorld), {
  name: "functions in PostgreSQL",
  clock: "server"
})

describe("PgFunctionStore", () => {
  it.live("finds by indexes, also when there are many", () =>
    Effect.gen(function* () {
      const { connection } = yield* pgWorld
      yield* connection.query("set enable_seqscan = off")
      const { rows } = yield* connection.query(
        "explain select * from holdfast.functions where principal = 'a' order by created_at desc, id desc limit 10",
        []
      )
      assert.include(JSON.stringify(rows), "functions_principal")
    }).pipe(Effect.scoped)
  )

  it.live("a database that is away is told as such, within the time of an operation", () =>
    Effect.gen(function* () {
      const url = Redacted.make("postgres://nobody@127.0.0.1:1/nothing")
      const store = yield* instance({ url, operationTimeout: "1 second" })
      const asked = [store.ping, store.find("alice", FunctionId.make()), store.list("alice"), store.prune(1)] as const
      for (const ask of asked) {
        const { reason } = yield* Effect.flip(Effect.asVoid(ask as Effect.Effect<unknown, FunctionError>))
        assert.strictEqual(reason._tag, "FunctionsUnavailable")
      }
    }).pipe(Effect.scoped)
  )

  it.live("F3 writes the use of a function at most once per touch interval", () =>
    Effect.gen(function* () {
      const { advance, another, connection, store } = yield* pgWorld
      const { id } = yield* store.create(
        {
          id: "f_00000000-0000-4000-8000-000000000000" as never,
          principal: "alice",
          language: "javascript",
          title: null,
          script: "",
          context: "null",
          idleTimeout: Duration.hours(1),
          absoluteTimeout: Duration.hours(2)
        },
        { functions: 10, bytes: 1000 }
      )
      yield* advance("2 minutes")
      const version = Effect.map(
        connection.query("select xmin::text from holdfast.functions"),
        ({ rows }) => rows[0]?.["xmin"]
      )
      const before = yield* version
      yield* Effect.all(
        Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? store : another).use("alice", id)),
        { concurrency: "unbounded" }
      )
      const after = yield* version
      assert.notStrictEqual(after, before)
      yield* store.use("alice", id)
      assert.strictEqual(yield* version, after)
    }).pipe(Effect.scoped)
  )
})
