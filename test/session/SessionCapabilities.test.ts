import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { unprunedStore } from "../support/sessions.ts"

/** Nobody is there: what a store promises is known before it is reached. */
const nowhere = Redacted.make("postgres://127.0.0.1:1/nowhere")
const redisNowhere = Redacted.make("redis://127.0.0.1:1")

const stores = [
  [
    "MemorySessionStore",
    unprunedStore,
    { sharedBy: "process", afterCrash: "lost", afterFailover: "lost", eviction: "never" }
  ],
  [
    "PgSessionStore",
    PgSessionStore.layer({ url: nowhere }),
    { sharedBy: "instances", afterCrash: "kept", afterFailover: "as configured", eviction: "never" }
  ],
  [
    "RedisSessionStore",
    RedisSessionStore.layer({ url: redisNowhere }),
    { sharedBy: "instances", afterCrash: "as configured", afterFailover: "may be undone", eviction: "as configured" }
  ]
] as const

for (const [name, layer, promised] of stores) {
  it.live(`${name} declares what it promises, also while it cannot be reached`, () =>
    Effect.gen(function* () {
      const { capabilities } = Context.get(yield* Layer.build(Layer.fresh(layer)), SessionStore)
      assert.deepStrictEqual(capabilities, promised)
    })
  )
}
