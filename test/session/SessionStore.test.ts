import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { pgWorld } from "../support/sessions.ts"
import { sessionStoreLaws } from "./sessionStoreLaws.ts"

sessionStoreLaws("MemorySessionStore", (name, body) =>
  it.effect(name, () =>
    Effect.flatMap(SessionStore, (store) => body({ store, another: store, advance: TestClock.adjust })).pipe(
      Effect.provide(MemorySessionStore.layer)
    )
  )
)

sessionStoreLaws("PgSessionStore", (name, body) => it.live(name, () => Effect.flatMap(pgWorld, body)))
