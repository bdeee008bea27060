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

/** The service's own database, and the user demo with this password, where there is one. */
const databasesOf = (own: Redacted.Redacted, password?: string) => ({
  own,
  queries: Option.none(),
  demo: Option.map(Option.fromUndefinedOr(password), (password) => Redacted.make(password)),
  embedded: Option.none()
})

type Store = SessionStore["Service"]

/** What readiness needs, over a store of which some calls do something else. */
const over = (url: Redacted.Redacted, changed: (store: Store) => Partial<Store> = () => ({})) =>
  Layer.mergeAll(
    Layer.effect(
      SessionStore,
      Effect.map(SessionStore, (store) => SessionStore.of({ ...store, ...changed(store) }))
    ).pipe(Layer.provide(unprunedStore)),
    FailureCounts.layerMemory,
    Users.layer.pipe(Layer.provide(PgClient.layer({ url })))
  )

const make = (databases: ReturnType<typeof databasesOf>) =>
  Effect.flatMap(Settings.load, (settings) => Readiness.make(settings, databases))

const isReady = ({ waitingFor }: { readonly waitingFor: Effect.Effect<ReadonlyArray<string>> }) =>
  eventually(waitingFor, (missing) => missing.length === 0, "30 seconds")

describe("Readiness", { concurrent: true }, () => {
  it.live("S7 nobody is told of the user demo before the sessions of an old password are ended", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      let ended = 0
      const counting = over(url, (store) => ({
        revokeAll: (principal, options) =>
          Effect.tap(Effect.andThen(Effect.yieldNow, store.revokeAll(principal, options)), () =>
            Effect.sync(() => ended++)
          )
      }))
      const started = Effect.gen(function* () {
        const readiness = yield* make(databasesOf(url, "secret"))
        yield* readiness.prepared
        const then = ended
        yield* isReady(readiness)
        return then
      }).pipe(Effect.scoped, Effect.provide(counting))
      assert.strictEqual(yield* started, 1)
      // The password is the same.
      assert.strictEqual(yield* started, 1)
    }).pipe(Effect.scoped)
  )

  it.live("is ready once its tables are there, however lately it said that they are not", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const isOpen = yield* Deferred.make<void>()
      const gated = over(url, (store) => ({
        revokeAll: (principal, options) => Effect.andThen(Deferred.await(isOpen), store.revokeAll(principal, options))
      }))
      // Time stands still, so that what is remembered is never too old.
      const clock = yield* Clock.Clock
      const now = clock.monotonicTimeNanosUnsafe()
      const still: Clock.Clock = Object.create(clock, {
        monotonicTimeNanosUnsafe: { value: () => now },
        monotonicTimeNanos: { value: Effect.succeed(now) }
      })
      yield* Effect.gen(function* () {
        const readiness = yield* Effect.provideService(make(databasesOf(url, "secret")), Clock.Clock, still)
        assert.deepStrictEqual(yield* readiness.waitingFor, ["tables"])
        yield* Deferred.succeed(isOpen, undefined)
        yield* isReady(readiness)
      }).pipe(Effect.scoped, Effect.provide(gated))
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
      yield* Effect.gen(function* () {
        const readiness = yield* make(databasesOf(url))
        yield* eventually(readiness.waitingFor, (missing) => missing.join() === "results", "20 seconds")
        isGone = false
        yield* isReady(readiness)
      }).pipe(Effect.scoped, Effect.provide(over(url)), Effect.provideService(QueryResults, results))
    }).pipe(Effect.scoped)
  )

  it.live(
    "S7 a new password of demo ends the sessions of the old one, after it, also where the service was killed between",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
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
        const watched = over(url, (store) => ({
          revokeAll: (principal, options) =>
            Effect.suspend(() => {
              asked++
              if (isAway) return Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: "away" }) }))
              return Effect.tap(store.revokeAll(principal, options), () =>
                Effect.map(Effect.orDie(isPassword("second")), (is) => ended.push(`${principal} ${is ? "new" : "old"}`))
              )
            })
        }))
        const start = (password: string) =>
          make(databasesOf(url, password)).pipe(Effect.provide(Layer.merge(watched, Layer.succeed(Users.Users, users))))
        const starts = (password: string) => Effect.scoped(Effect.flatMap(start(password), isReady))

        yield* starts("first")
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
        yield* starts("second")
        assert.deepStrictEqual(ended, ["demo new"])
        // Once is enough.
        yield* starts("second")
        assert.deepStrictEqual(ended, ["demo new"])
        // The same while it lives: sessions that were away are ended when they are back.
        ended.length = 0
        yield* Effect.scoped(
          Effect.gen(function* () {
            isAway = true
            const readiness = yield* start("third")
            yield* readiness.prepared
            isAway = false
            yield* isReady(readiness)
          })
        )
        assert.lengthOf(ended, 1)
        // What a command that was killed had left is done as well.
        yield* users.put({ name: "alice", operator: false, password: Redacted.make("secret") })
        yield* users.remove("alice")
        assert.lengthOf(yield* users.debts, 1)
        yield* starts("third")
        assert.deepStrictEqual(ended.slice(1), ["alice old"])
        assert.deepStrictEqual([yield* users.debts, yield* users.names], [[], ["demo"]])
      }).pipe(Effect.scoped)
  )

  it.live("the last answer is good for a second, also when the clock is set back", () =>
    SkewedClock.settable(({ back }) =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        const away = Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: new Error("away") }) }))
        let isAway = false
        const unsteady = over(url, (store) => ({ ping: Effect.suspend(() => (isAway ? away : store.ping)) }))
        yield* Effect.gen(function* () {
          const readiness = yield* make(databasesOf(url))
          yield* isReady(readiness)
          isAway = true
          yield* back("1 hour")
          yield* eventually(readiness.waitingFor, (missing) => missing.includes("sessions"), "8 seconds")
        }).pipe(Effect.provide(unsteady))
      })
    )
  )
})
