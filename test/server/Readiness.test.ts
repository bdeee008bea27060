import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { QueryError, ResultsUnavailable } from "../../src/query/QueryError.ts"
import { QueryResults } from "../../src/query/QueryResults.ts"
import * as FailureCounts from "../../src/server/FailureCounts.ts"
import * as Readiness from "../../src/server/Readiness.ts"
import * as Settings from "../../src/server/Settings.ts"
import * as Users from "../../src/server/Users.ts"
import { SessionError, SessionsUnavailable } from "../../src/session/SessionError.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
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
        yield* eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
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

  it.live("is ready once its tables are there, however lately it said that they are not", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const databases = {
        own: url,
        queries: Option.none(),
        demo: Option.some(Redacted.make("secret")),
        embedded: Option.none()
      }
      const isOpen = yield* Deferred.make<void>()
      const gated = Layer.effect(
        SessionStore,
        Effect.map(SessionStore, (store) =>
          SessionStore.of({
            ...store,
            revokeAll: (principal, options) =>
              Effect.andThen(Deferred.await(isOpen), store.revokeAll(principal, options))
          })
        )
      ).pipe(Layer.provide(unprunedStore))
      // Time stands still, so that what is remembered is never too old.
      const clock = yield* Clock.Clock
      const now = clock.monotonicTimeNanosUnsafe()
      const still: Clock.Clock = Object.create(clock, {
        monotonicTimeNanosUnsafe: { value: () => now },
        monotonicTimeNanos: { value: Effect.succeed(now) }
      })
      yield* Effect.gen(function* () {
        const settings = yield* Settings.load
        const { waitingFor } = yield* Effect.provideService(Readiness.make(settings, databases), Clock.Clock, still)
        assert.deepStrictEqual(yield* waitingFor, ["tables"])
        yield* Deferred.succeed(isOpen, undefined)
        yield* eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
      }).pipe(
        Effect.scoped,
        Effect.provide([gated, FailureCounts.layerMemory, Users.layer.pipe(Layer.provide(PgClient.layer({ url })))])
      )
    }).pipe(Effect.scoped)
  )

  it.live("is not ready while rows of queries cannot be kept, and is again when they can", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      let isGone = true
      const gone = Effect.fail(
        new QueryError({ reason: new ResultsUnavailable({ problem: "Rows cannot be kept below /gone." }) })
      )
      const results = QueryResults.of({
        open: () => Effect.die("nothing is submitted"),
        ready: Effect.suspend(() => (isGone ? gone : Effect.void))
      })
      const databases = { own: url, queries: Option.none(), demo: Option.none(), embedded: Option.none() }
      yield* Effect.gen(function* () {
        const { waitingFor } = yield* Readiness.make(yield* Settings.load, databases)
        yield* eventually(waitingFor, (missing) => missing.join() === "results", "20 seconds")
        isGone = false
        yield* eventually(waitingFor, (missing) => missing.length === 0, "20 seconds")
      }).pipe(
        Effect.scoped,
        Effect.provide([
          unprunedStore,
          FailureCounts.layerMemory,
          Users.layer.pipe(Layer.provide(PgClient.layer({ url })))
        ]),
        Effect.provideService(QueryResults, results)
      )
    }).pipe(Effect.scoped)
  )

  it.live(
    "S7 a new password of demo ends the sessions of the old one, after it, also where the service was killed between",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        const databases = (password: string) => ({
          own: url,
          queries: Option.none(),
          demo: Option.some(Redacted.make(password)),
          embedded: Option.none()
        })
        const sql = PgClient.layer({ url })
        const users = Context.get(yield* Layer.build(Users.layer.pipe(Layer.provide(sql))), Users.Users)
        const isPassword = (password: string) =>
          Effect.map(
            Effect.flatMap(users.find("demo"), (verify) => verify(Redacted.make(password))),
            Option.isSome
          )
        const ended: Array<string> = []
        let isAway = false
        let asked = 0
        const watched = Layer.effect(
          SessionStore,
          Effect.map(SessionStore, (store) =>
            SessionStore.of({
              ...store,
              revokeAll: (principal, options) =>
                Effect.suspend(() => {
                  asked++
                  if (isAway)
                    return Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: "away" }) }))
                  return Effect.tap(store.revokeAll(principal, options), () =>
                    Effect.map(Effect.orDie(isPassword("second")), (is) =>
                      ended.push(`${principal} ${is ? "new" : "old"}`)
                    )
                  )
                })
            })
          )
        ).pipe(Layer.provide(unprunedStore))
        const start = (password: string) =>
          Effect.gen(function* () {
            return yield* Readiness.make(yield* Settings.load, databases(password))
          }).pipe(Effect.provide([watched, FailureCounts.layerMemory, Layer.succeed(Users.Users, users)]))

        yield* Effect.scoped(
          Effect.flatMap(start("first"), ({ waitingFor }) =>
            eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
          )
        )
        ended.length = 0
        isAway = true
        asked = 0
        // The new password is there, the sessions are away, and the service is killed.
        yield* Effect.scoped(
          Effect.gen(function* () {
            const { prepared, waitingFor } = yield* start("second")
            yield* prepared
            assert.isTrue(yield* isPassword("second"))
            assert.include(yield* waitingFor, "tables")
            yield* eventually(
              Effect.sync(() => asked),
              (asked) => asked >= 1
            )
          })
        )
        assert.deepStrictEqual(ended, [])
        isAway = false
        yield* Effect.scoped(
          Effect.flatMap(start("second"), ({ waitingFor }) =>
            eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
          )
        )
        assert.deepStrictEqual(ended, ["demo new"])
        // Once is enough.
        yield* Effect.scoped(
          Effect.flatMap(start("second"), ({ waitingFor }) =>
            eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
          )
        )
        assert.deepStrictEqual(ended, ["demo new"])
        // The same while it lives: sessions that were away are ended when they are back.
        ended.length = 0
        yield* Effect.scoped(
          Effect.gen(function* () {
            isAway = true
            const { prepared, waitingFor } = yield* start("third")
            yield* prepared
            isAway = false
            yield* eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
          })
        )
        assert.lengthOf(ended, 1)
        // What a command that was killed had left is done as well.
        yield* users.put({ name: "alice", operator: false, password: Redacted.make("secret") })
        yield* users.remove("alice")
        assert.lengthOf(yield* users.debts, 1)
        yield* Effect.scoped(
          Effect.flatMap(start("third"), ({ waitingFor }) =>
            eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
          )
        )
        assert.deepStrictEqual(ended.slice(1), ["alice old"])
        assert.deepStrictEqual([yield* users.debts, yield* users.names], [[], ["demo"]])
      }).pipe(Effect.scoped)
  )

  it.live("the last answer is good for a second, also when the clock is set back", () =>
    SkewedClock.settable(({ back }) =>
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
          yield* eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")
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
