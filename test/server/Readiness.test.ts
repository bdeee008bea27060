import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as FailureCounts from "../../src/server/FailureCounts.ts"
import * as Readiness from "../../src/server/Readiness.ts"
import * as Settings from "../../src/server/Settings.ts"
import * as Users from "../../src/server/Users.ts"
import { SessionError, SessionsUnavailable } from "../../src/session/SessionError.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { onSettableClock } from "../support/clocks.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { unprunedStore } from "../support/sessions.ts"

describe("Readiness", () => {
  it.live("S7 nobody is told of the user demo before the sessions of an old password are ended", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const databases = {
        own: url,
        queries: Option.none(),
        demo: Option.some(Redacted.make("secret")),
        embedded: Option.none()
      }
      let ended = 0
      const counting = Layer.effect(
        SessionStore,
        Effect.map(SessionStore, (store) =>
          SessionStore.of({
            ...store,
            revokeAll: (principal, options) =>
              Effect.tap(Effect.andThen(Effect.yieldNow, store.revokeAll(principal, options)), () =>
                Effect.sync(() => ended++)
              )
          })
        )
      ).pipe(Layer.provide(unprunedStore))
      const started = Effect.gen(function* () {
        const { prepared, waitingFor } = yield* Readiness.make(yield* Settings.load, databases)
        yield* prepared
        const then = ended
        yield* eventually(waitingFor, (missing) => missing.length === 0)
        return then
      }).pipe(
        Effect.scoped,
        Effect.provide([counting, FailureCounts.layerMemory, Users.layer.pipe(Layer.provide(PgClient.layer({ url })))])
      )
      assert.strictEqual(yield* started, 1)
      // The password is the same.
      assert.strictEqual(yield* started, 1)
    }).pipe(Effect.scoped)
  )

  it.live("the last answer is good for a second, also when the clock is set back", () =>
    onSettableClock(({ back }) =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        const databases = { own: url, queries: Option.none(), demo: Option.none(), embedded: Option.none() }
        const away = Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: new Error("away") }) }))
        let isAway = false
        const unsteady = Layer.effect(
          SessionStore,
          Effect.map(SessionStore, (store) =>
            SessionStore.of({ ...store, ping: Effect.suspend(() => (isAway ? away : store.ping)) })
          )
        ).pipe(Layer.provide(unprunedStore))
        yield* Effect.gen(function* () {
          const { waitingFor } = yield* Readiness.make(yield* Settings.load, databases)
          yield* eventually(waitingFor, (missing) => missing.length === 0)
          isAway = true
          yield* back("1 hour")
          yield* eventually(waitingFor, (missing) => missing.includes("sessions"), "8 seconds")
        }).pipe(
          Effect.provide([
            unsteady,
            FailureCounts.layerMemory,
            Users.layer.pipe(Layer.provide(PgClient.layer({ url })))
          ])
        )
      })
    )
  )
})
