import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { sweep } from "../../src/testing/InterruptSweep.ts"
import { redisWorld } from "../support/redisSessions.ts"
import { pgWorld } from "../support/sessions.ts"
import { sessionStoreLaws } from "./sessionStoreLaws.ts"

sessionStoreLaws("MemorySessionStore", (name, body) =>
  it.effect(name, () =>
    Effect.flatMap(SessionStore, (store) => body({ store, another: store, advance: TestClock.adjust })).pipe(
      Effect.provide(MemorySessionStore.layer)
    )
  )
)

sessionStoreLaws("MemorySessionStore, suspended wherever it can be", (name, body) =>
  it.effect(name, () =>
    sweep(
      Effect.flatMap(SessionStore, (store) => body({ store, another: store, advance: TestClock.adjust })).pipe(
        Effect.provide(Layer.fresh(MemorySessionStore.layer))
      ),
      { steps: [3, 5, 8, 13, 21] }
    )
  )
)

sessionStoreLaws("PgSessionStore", (name, body) => it.live(name, () => Effect.flatMap(pgWorld, body)))

sessionStoreLaws("RedisSessionStore", (name, body) => it.live(name, () => Effect.flatMap(redisWorld, body)))
