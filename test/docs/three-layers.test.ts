import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as PgSessionStore from "holdfast/postgres/PgSessionStore"
import { AppSession, layerApp, report } from "../../docs/examples/three-layers.ts"
import type { ConnectionPool } from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { Sessions } from "../../src/session/Sessions.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { busyBackends, eventually, inTimeOf } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

const withApp = <A, E>(test: (database: string) => Effect.Effect<A, E, Sessions | ConnectionPool>) =>
  Effect.gen(function* () {
    const { name, url } = yield* freshDatabase
    yield* PgSessionStore.migrate({ url })
    yield* Effect.provide(test(name), layerApp(url))
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Ledger.layer))

const runs = (database: string) =>
  eventually(busyBackends(database), (busy) => busy.some(({ query }) => String(query).includes("pg_sleep")))

describe("the three-layer example", () => {
  it.live("answers", () =>
    withApp(() =>
      Effect.gen(function* () {
        const { token } = yield* AppSession.create({ principal: "alice" })
        assert.deepStrictEqual(yield* report(token, "select 6 * 7 as answer"), { principal: "alice", rows: [[42]] })
      })
    )
  )

  it.live("interrupted in mid-statement, it returns well under a second and leaves nothing on the server", () =>
    withApp((database) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { token } = yield* AppSession.create({ principal: "alice" })
        const fiber = yield* Effect.forkChild(report(token, "select pg_sleep(60)"))
        yield* runs(database)
        const begun = performance.now()
        yield* Fiber.interrupt(fiber)
        const took = performance.now() - begun
        assert.isBelow(took, inTimeOf(900))
        assert.deepStrictEqual(yield* busyBackends(database), [])
        yield* eventually(
          Effect.sync(() => recorder.story("session").filter((step) => !step.endsWith("acquired"))),
          (story) => story.at(-1) === "session released"
        )
        assert.deepStrictEqual(
          recorder
            .story("session")
            .filter((step) => step.endsWith("released"))
            .map((step) => step.split(" ")[0]),
          ["statement", "connection", "query", "handle", "session"]
        )
      }).pipe(Effect.scoped)
    )
  )

  it.live("S9 a logout elsewhere in the process ends it with SessionEnded, after release", () =>
    withApp((database) =>
      Effect.gen(function* () {
        const sessions = yield* Sessions
        const { record, token } = yield* AppSession.create({ principal: "alice" })
        const fiber = yield* Effect.forkChild(Effect.flip(report(token, "select pg_sleep(60)")))
        yield* runs(database)
        yield* sessions.end(record.id)
        assert.deepStrictEqual(yield* busyBackends(database), [])
        const error = yield* Fiber.join(fiber)
        assert.deepStrictEqual([error._tag, "reason" in error ? error.reason._tag : ""], ["QueryError", "SessionEnded"])
        const again = yield* Effect.flip(report(token, "select 1"))
        assert.deepStrictEqual(
          [again._tag, "reason" in again ? again.reason._tag : ""],
          ["SessionError", "SessionRevoked"]
        )
      })
    )
  )
})
