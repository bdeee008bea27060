/**
 * What a session costs in this process while it holds something: 10,000 of them in one `Sessions`, each held by one handle.
 * Needs `NODE_OPTIONS=--expose-gc`; the store
 * knows none of them and has none ended, so that only `Sessions` is measured.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import type { SessionRecord } from "../../src/session/SessionRecord.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as Sessions from "../../src/session/Sessions.ts"

const count = 10_000

const indifferent = Layer.effect(
  SessionStore,
  Effect.map(SessionStore, (store) => ({ ...store, endedOf: () => Effect.succeed([]) }))
).pipe(Layer.provide(MemorySessionStore.layer))

const program = Effect.gen(function* () {
  const gc = globalThis.gc
  if (gc === undefined) return yield* Effect.die(new Error("Run it with NODE_OPTIONS=--expose-gc"))
  const heap = () => {
    for (let times = 0; times < 4; times++) gc()
    return process.memoryUsage().heapUsed
  }
  const sessions = Context.get(
    yield* Layer.build(Sessions.layer().pipe(Layer.provide(indifferent), Layer.provideMerge(Ledger.layer))),
    Sessions.Sessions
  )
  const now = yield* DateTime.now
  const records = Array.from({ length: count }, (): SessionRecord => ({
    id: SessionId.make(),
    principal: "alice",
    actor: null,
    data: null,
    dataVersion: 1,
    version: 1,
    device: {},
    createdAt: now,
    lastSeenAt: now,
    idleExpiresAt: now,
    expiresAt: now,
    renewalNonce: null
  }))
  const scopes = records.map(() => Scope.makeUnsafe())
  const rows: Array<{ round: number; "held B": number; "µs to hold": number; "left B": number }> = []
  for (const round of [1, 2, 3]) {
    scopes.forEach((_, index) => (scopes[index] = Scope.makeUnsafe()))
    const before = heap()
    const begun = performance.now()
    for (const [index, record] of records.entries()) {
      const scope = scopes[index]
      if (scope !== undefined) yield* Scope.provide(sessions.hold(record), scope)
    }
    const took = performance.now() - begun
    const held = heap() - before
    for (const scope of scopes) yield* Scope.close(scope, Exit.void)
    scopes.forEach((_, index) => (scopes[index] = Scope.makeUnsafe()))
    rows.push({
      round,
      "held B": Math.round(held / count),
      "µs to hold": Math.round((took * 10_000) / count) / 10,
      "left B": Math.round((heap() - before) / count)
    })
  }
  console.table(rows)
}).pipe(Effect.scoped)

export const run = () => Effect.runPromise(program)
