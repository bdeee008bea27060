import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Session from "../../src/session/Session.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import { SessionError, SessionsUnavailable } from "../../src/session/SessionError.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import type * as SessionToken from "../../src/session/SessionToken.ts"
import * as SessionStore from "../../src/session/SessionStore.ts"
import { steps, sweep } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { unprunedStore } from "../support/sessions.ts"

class AppSession extends Session.Service<AppSession>()("test/AppSession", {
  data: Schema.Struct({ cart: Schema.Array(Schema.String) }),
  initial: { cart: [] }
}) {}

const layerSessions = Sessions.layer({ pollInterval: "10 seconds" }).pipe(
  Layer.provideMerge(unprunedStore),
  Layer.provideMerge(Ledger.layer)
)
const login = AppSession.create({ principal: "alice" })

/** Work that says when it runs, and whether it was interrupted. */
const work = Effect.gen(function* () {
  const started = yield* Deferred.make<void>()
  const over = yield* Deferred.make<"interrupted" | "done">()
  const effect = Deferred.succeed(started, undefined).pipe(
    Effect.andThen(Effect.never),
    Effect.onExit((exit) => Deferred.succeed(over, Exit.hasInterrupts(exit) ? "interrupted" : "done"))
  )
  return { effect, started: Deferred.await(started), over: Deferred.await(over), isOver: Deferred.isDone(over) }
})

/** A session of alice's with work in it that runs. */
const working = Effect.gen(function* () {
  const { record, token } = yield* login
  const { effect, isOver, over, started } = yield* work
  yield* Effect.scoped(
    Effect.provide(
      Effect.flatMap(AppSession, (session) => session.run(effect)),
      AppSession.layer(token)
    )
  )
  yield* started
  return { record, token, isOver, over }
})

/** Whose fiber ends a session. */
const Ender = Context.Reference("test/Ender", { defaultValue: () => "the news" })

/** Over a store of which parts are replaced. */
const layerOver = (
  replace: (store: SessionStore.SessionStore["Service"]) => Partial<SessionStore.SessionStore["Service"]>
) =>
  Sessions.layer().pipe(
    Layer.provideMerge(
      Layer.effect(
        SessionStore.SessionStore,
        Effect.map(SessionStore.SessionStore, (store) => ({ ...store, ...replace(store) }))
      ).pipe(Layer.provide(unprunedStore))
    ),
    Layer.provideMerge(Ledger.layer)
  )

const limits = {
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 5
}

describe("Sessions", () => {
  it.effect("S9 the end of a session interrupts what runs in it, and waits for that", () =>
    sweep(
      Effect.gen(function* () {
        const { record, token } = yield* login
        const { effect, isOver, over, started } = yield* work
        yield* Effect.gen(function* () {
          yield* (yield* AppSession).run(effect)
        }).pipe(Effect.provide(AppSession.layer(token)))
        yield* started
        assert.isFalse(yield* isOver, "the work goes on when the request is over")
        yield* (yield* Sessions.Sessions).end(record.id)
        assert.isTrue(yield* isOver)
        assert.strictEqual(yield* over, "interrupted")
        const again = yield* Effect.flip(Effect.scoped(AppSession.open(token)))
        assert.strictEqual(again.reason._tag, "SessionRevoked")
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(layerSessions)))
    )
  )

  it.effect("L1 a session can be ended from its own work", () =>
    sweep(
      Effect.gen(function* () {
        const { record, token } = yield* login
        const fiber = yield* Effect.gen(function* () {
          const session = yield* AppSession
          return yield* session.run(Effect.andThen(session.logout, Effect.succeed("outlived")))
        }).pipe(Effect.provide(AppSession.layer(token)))
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
        yield* (yield* Sessions.Sessions).end(record.id)
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(layerSessions)))
    )
  )

  it.effect("S9 the end of a session elsewhere is heard at once", () =>
    Effect.gen(function* () {
      const store = yield* SessionStore.SessionStore
      const { record, over } = yield* working
      yield* store.revoke(record.id)
      assert.strictEqual(yield* over, "interrupted")
    }).pipe(Effect.provide(layerSessions))
  )

  type Ending = (
    sessions: Sessions.Sessions["Service"],
    id: SessionId.SessionId
  ) => Effect.Effect<Effect.Effect<void>, SessionError>
  const over = <E>(ended: Effect.Effect<{ readonly over: Effect.Effect<void> }, E>) =>
    Effect.map(ended, ({ over }) => over)
  const ends: ReadonlyArray<readonly [string, Ending]> = [
    ["revoke", (sessions, id) => over(sessions.revoke(id))],
    ["revokeAll", (sessions) => over(sessions.revokeAll("alice"))]
  ]
  for (const [how, end] of ends) {
    it.effect(`S16 a session is ended by its own ${how}, also when the news of it comes before the answer`, () =>
      Effect.gen(function* () {
        const hints = yield* Queue.unbounded<SessionStore.Ended>()
        const [committed, answer] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
        let asked = 0
        const late = <A>(done: Effect.Effect<A, SessionError>) =>
          Effect.tap(done, () => Effect.andThen(Deferred.succeed(committed, undefined), Deferred.await(answer)))
        const layer = layerOver((store) => ({
          ended: Stream.fromQueue(hints),
          endedOf: (ids) =>
            Effect.tap(store.endedOf(ids), () =>
              Effect.sync(() => {
                asked += ids.length
              })
            ),
          revoke: (id) => late(store.revoke(id)),
          revokeAll: (principal, options) => late(store.revokeAll(principal, options))
        }))
        yield* Effect.gen(function* () {
          const sessions = yield* Sessions.Sessions
          const [own, other] = yield* Effect.all([login, AppSession.create({ principal: "bob" })])
          const { lifetime } = yield* sessions.open(own.token)
          yield* sessions.open(other.token)
          const enders: Array<string> = []
          yield* Scope.addFinalizer(
            lifetime.scope,
            Effect.flatMap(Ender, (ender) => Effect.sync(() => enders.push(ender)))
          )
          const ending = yield* Effect.forkChild(
            Effect.provideService(Effect.flatten(end(sessions, own.record.id)), Ender, "the caller")
          )
          yield* Deferred.await(committed)
          // What is heard next is asked about when what was heard first is done.
          for (const { id } of [own.record, other.record]) {
            const before = asked
            yield* Queue.offer(hints, { _tag: "Session", id })
            yield* Effect.repeat(Effect.yieldNow, { until: () => asked > before })
          }
          yield* Deferred.succeed(answer, undefined)
          yield* Fiber.join(ending)
          assert.deepStrictEqual(enders, ["the caller"])
        }).pipe(Effect.scoped, Effect.provide(layer))
      })
    )
  }

  it.effect("S9 an end elsewhere that is heard while the store is asked for others is not missed when it fails", () =>
    Effect.gen(function* () {
      const hints = yield* Queue.unbounded<SessionStore.Ended>()
      const [asking, answer] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const away = new SessionError({ reason: new SessionsUnavailable({ cause: new Error("away") }) })
      const layer = layerOver(() => ({
        ended: Stream.fromQueue(hints),
        revokeAll: () =>
          Effect.andThen(Effect.andThen(Deferred.succeed(asking, undefined), Deferred.await(answer)), Effect.fail(away))
      }))
      yield* Effect.gen(function* () {
        const [store, sessions] = [yield* SessionStore.SessionStore, yield* Sessions.Sessions]
        const { over, record } = yield* working
        const failing = yield* Effect.forkChild(Effect.flip(sessions.revokeAll("bob")))
        yield* Deferred.await(asking)
        yield* store.revoke(record.id)
        yield* Queue.offer(hints, { _tag: "Session", id: record.id })
        yield* Deferred.succeed(answer, undefined)
        assert.strictEqual(yield* Fiber.join(failing), away)
        assert.strictEqual(yield* over, "interrupted")
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("S9 the end of a session elsewhere is found by asking the store when nobody tells", () =>
    Effect.gen(function* () {
      const store = yield* SessionStore.SessionStore
      const { isOver, over, record } = yield* working
      yield* store.revoke(record.id)
      yield* TestClock.adjust("7 seconds")
      assert.isFalse(yield* isOver)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* over, "interrupted")
    }).pipe(Effect.provide(layerOver(() => ({ ended: Stream.never }))))
  )

  it.effect("S9 after hints were lost the store is asked at once", () =>
    Effect.gen(function* () {
      const hints = yield* Queue.unbounded<SessionStore.Ended>()
      yield* Effect.gen(function* () {
        const store = yield* SessionStore.SessionStore
        const { over, record } = yield* working
        yield* store.revoke(record.id)
        yield* Queue.offer(hints, { _tag: "Unknown" })
        assert.strictEqual(yield* over, "interrupted")
      }).pipe(Effect.provide(layerOver(() => ({ ended: Stream.fromQueue(hints) }))))
    })
  )

  it.effect("S9 an end that is heard is not left to the polling because the store failed once", () =>
    Effect.gen(function* () {
      const { isOver, record } = yield* working
      const store = yield* SessionStore.SessionStore
      yield* store.revoke(record.id)
      for (let turns = 0; turns < 20; turns++) yield* Effect.yieldNow
      assert.isTrue(yield* isOver)
    }).pipe(
      Effect.provide(
        layerOver((store) => {
          let failures = 0
          return {
            endedOf: (ids) =>
              Effect.suspend(() =>
                ids.length > 0 && failures++ < 2
                  ? Effect.fail(
                      new SessionError({ reason: new SessionsUnavailable({ cause: new Error("once and twice") }) })
                    )
                  : store.endedOf(ids)
              )
          }
        })
      )
    )
  )

  it.effect("S9 a forged hint ends nothing, and costs the store no question about sessions that nobody holds", () =>
    Effect.gen(function* () {
      const hints = yield* Queue.unbounded<SessionStore.Ended>()
      const asked: Array<number> = []
      const layer = layerOver((store) => ({
        ended: Stream.fromQueue(hints),
        endedOf: (ids) =>
          Effect.andThen(
            Effect.sync(() => asked.push(ids.length)),
            store.endedOf(ids)
          )
      }))
      yield* Effect.gen(function* () {
        const { isOver, record } = yield* working
        const ids = [...Array.from({ length: 5000 }, () => SessionId.make()), record.id, record.id]
        yield* Queue.offerAll(
          hints,
          ids.map((id) => ({ _tag: "Session" as const, id }))
        )
        yield* Effect.repeat(Effect.yieldNow, { until: () => asked.length > 0 })
        yield* TestClock.adjust("1 second")
        assert.isFalse(yield* isOver)
        assert.isAtMost(Math.max(...asked), 1)
        assert.isAtMost(asked.length, 2)
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("S9 an end that is heard between loading and holding a session is not missed", () =>
    Effect.gen(function* () {
      const store = yield* SessionStore.SessionStore
      const sessions = yield* Sessions.Sessions
      const { token } = yield* login
      const record = yield* sessions.load(token)
      yield* store.revoke(record.id)
      yield* TestClock.adjust("1 second")
      const { lifetime } = yield* sessions.hold(record)
      yield* lifetime.ended
    }).pipe(Effect.scoped, Effect.provide(layerSessions))
  )

  it.effect("S8 what had to make room for a login is over here when the login is done", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { isOver } = yield* working
      const visitor = yield* sessions.create({ ...limits, principal: null, data: {}, dataVersion: 1, device: {} })
      const login = { ...limits, maxPerPrincipal: 1, principal: "alice", device: {} }
      yield* (yield* sessions.authenticate(visitor.token, login)).roomMade
      assert.isTrue(yield* isOver)
      const second = yield* working
      yield* AppSession.create({ principal: "alice", policy: { maxPerPrincipal: 1 } })
      assert.isTrue(yield* second.isOver)
    }).pipe(Effect.provide(layerOver(() => ({ ended: Stream.never }))))
  )

  it.effect("S7 revoking a principal waits for the end of all its sessions here", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const held = yield* Effect.all([working, working, working])
      const kept = held[0].record.id
      yield* (yield* sessions.revokeAll("alice", { except: kept })).over
      assert.deepStrictEqual(yield* Effect.all(held.map(({ isOver }) => isOver)), [false, true, true])
      const last = yield* sessions.revokeAll("alice")
      yield* last.over
      assert.deepStrictEqual(last.ids, [kept])
      assert.isTrue(yield* held[0].isOver)
    }).pipe(Effect.provide(layerOver(() => ({ ended: Stream.never }))))
  )

  it.effect(
    "S9 fifty thousand sessions that end at once are over here within the bound",
    () =>
      Effect.gen(function* () {
        const sessions = yield* Sessions.Sessions
        const { ids, over } = yield* sessions.revokeAll("alice")
        yield* over
        assert.lengthOf(ids, 50_000)
      }).pipe(
        Effect.provide(
          layerOver(() => ({ revokeAll: () => Effect.sync(() => Array.from({ length: 50_000 }, SessionId.make)) }))
        )
      ),
    15_000
  )

  it.effect("waiting for a session that is just being let go of can be given up", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { token } = yield* login
      const [released, go] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const scope = yield* Scope.make()
      const { lifetime } = yield* Scope.provide(sessions.open(token), scope)
      yield* Scope.addFinalizer(
        lifetime.scope,
        Effect.andThen(Deferred.succeed(released, undefined), Deferred.await(go))
      )
      yield* Scope.close(scope, Exit.void)
      yield* Deferred.await(released)
      const opening = yield* Effect.forkChild(Effect.scoped(sessions.open(token)), { startImmediately: true })
      yield* Fiber.interrupt(opening)
      yield* Deferred.succeed(go, undefined)
      assert.strictEqual((yield* Effect.scoped(sessions.open(token))).record.principal, "alice")
    }).pipe(Effect.provide(layerSessions))
  )

  it.effect("S9 a session that expires is ended here, although nobody presents its token any more", () =>
    Effect.gen(function* () {
      const { token } = yield* AppSession.create({
        principal: "alice",
        policy: { absoluteTimeout: "1 hour", idleTimeout: "1 hour" }
      })
      const { effect, over, started } = yield* work
      yield* Effect.scoped(
        Effect.provide(
          Effect.flatMap(AppSession, (session) => session.run(effect)),
          AppSession.layer(token)
        )
      )
      yield* started
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual(yield* over, "interrupted")
    }).pipe(Effect.provide(layerSessions))
  )

  it.effect("S11 a store that does not answer ends nothing", () =>
    Effect.gen(function* () {
      const { token } = yield* login
      const { effect, isOver, started } = yield* work
      yield* Effect.scoped(
        Effect.provide(
          Effect.flatMap(AppSession, (session) => session.run(effect)),
          AppSession.layer(token)
        )
      )
      yield* started
      yield* TestClock.adjust("10 minutes")
      assert.isFalse(yield* isOver)
    }).pipe(
      Effect.provide(
        Sessions.layer().pipe(
          Layer.provideMerge(
            Layer.effect(
              SessionStore.SessionStore,
              Effect.map(SessionStore.SessionStore, (store) => ({
                ...store,
                endedOf: () =>
                  Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: new Error("store down") }) }))
              }))
            ).pipe(Layer.provide(unprunedStore))
          )
        )
      )
    )
  )

  it.effect("S3 a load that began before the end does not bring the session back here", () =>
    Effect.gen(function* () {
      const loaded = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const slow = Layer.effect(
        SessionStore.SessionStore,
        Effect.map(SessionStore.SessionStore, (store) => ({
          ...store,
          load: (token: Parameters<typeof store.load>[0]) =>
            Effect.tap(store.load(token), () =>
              Effect.andThen(Deferred.succeed(loaded, undefined), Deferred.await(goOn))
            )
        }))
      )
      yield* Effect.gen(function* () {
        const { record, token } = yield* login
        const opening = yield* Effect.forkChild(Effect.flip(Effect.scoped(AppSession.open(token))))
        yield* Deferred.await(loaded)
        yield* (yield* Sessions.Sessions).end(record.id)
        yield* Deferred.succeed(goOn, undefined)
        assert.strictEqual((yield* Fiber.join(opening)).reason._tag, "SessionRevoked")
        yield* LedgerRecorder.assertEmpty()
      }).pipe(
        Effect.provide(
          Sessions.layer().pipe(
            Layer.provideMerge(slow.pipe(Layer.provide(unprunedStore))),
            Layer.provideMerge(Ledger.layer)
          )
        )
      )
    })
  )

  it.live("S3 nor does one that was under way when the clock of this process was set on", () =>
    Effect.gen(function* () {
      const real = Clock.Clock.defaultValue()
      let ahead = 0
      const clock: Clock.Clock = Object.create(real, {
        currentTimeMillisUnsafe: { value: () => real.currentTimeMillisUnsafe() + ahead }
      })
      yield* Effect.gen(function* () {
        const sessions = yield* Sessions.Sessions
        const [one, other] = [yield* login, yield* login]
        yield* sessions.end(one.record.id)
        ahead = 3_600_000
        yield* sessions.end(other.record.id)
        for (const { record } of [one, other]) {
          const held = yield* Effect.flip(Effect.scoped(sessions.hold(record)))
          assert.strictEqual(held.reason._tag, "SessionRevoked")
        }
      }).pipe(Effect.provide(Layer.fresh(layerSessions)), Effect.provideService(Clock.Clock, clock))
    })
  )

  it.effect("S9 a session that is opened while it ends is not alive here afterwards, whatever comes first", () =>
    Effect.forEach(
      steps.filter((step) => step < 24),
      (step) =>
        Effect.forEach(
          Array.from({ length: 20 }, (_, index) => index),
          (delay) =>
            Effect.gen(function* () {
              const sessions = yield* Sessions.Sessions
              const { record, token } = yield* login
              const opening = yield* Effect.forkChild(
                Effect.provideService(Effect.exit(sessions.open(token)), Scheduler.MaxOpsBeforeYield, step)
              )
              for (let yields = 0; yields < delay; yields++) yield* Effect.yieldNow
              yield* sessions.end(record.id)
              const opened = yield* Fiber.join(opening)
              if (Exit.isSuccess(opened))
                assert.isTrue(opened.value.lifetime.isEnding(), `step ${step}, delay ${delay}`)
            }).pipe(Effect.scoped, Effect.provide(Layer.fresh(layerSessions))),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("S9 a session whose work does not let go keeps no other from ending", () =>
    Effect.gen(function* () {
      const store = yield* SessionStore.SessionStore
      const letGo = yield* Deferred.make<void>()
      const alice = yield* login
      const bob = yield* AppSession.create({ principal: "bob" })
      const lifetimeOf = (token: SessionToken.SessionToken) =>
        Effect.flatMap(AppSession.open(token), (context) =>
          Effect.provideContext(
            Effect.flatMap(AppSession, ({ lifetime }) => lifetime),
            context
          )
        )
      const [hers, his] = yield* Effect.all([lifetimeOf(alice.token), lifetimeOf(bob.token)])
      yield* Scope.addFinalizer(hers.scope, Deferred.await(letGo))
      yield* store.revoke(alice.record.id)
      yield* TestClock.adjust("12 seconds")
      yield* store.revoke(bob.record.id)
      yield* TestClock.adjust("12 seconds")
      assert.deepStrictEqual([hers.isEnding(), his.isEnding()], [true, true])
      yield* his.ended
      yield* Deferred.succeed(letGo, undefined)
    }).pipe(Effect.scoped, Effect.provide(layerSessions))
  )

  it.effect("a request that comes when the map of sessions is closed is told so, and waits for nothing", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Scope.provide(Layer.build(Layer.fresh(layerSessions)), scope)
      const open = Effect.gen(function* () {
        const { token } = yield* login
        yield* Scope.close(scope, Exit.void)
        const { open } = yield* Sessions.Sessions
        return yield* Effect.scoped(Effect.flip(open(token)))
      })
      const { reason } = yield* Effect.provideContext(open, context)
      assert.strictEqual(reason._tag, "SessionsUnavailable")
      yield* LedgerRecorder.assertEmpty()
    })
  )

  it.effect("holds an entry only while something holds the session", () =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const { token } = yield* login
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* AppSession.open(token)
          yield* AppSession.open(token)
          assert.deepStrictEqual((yield* ledger.holdings).map(({ kind }) => kind).toSorted(), [
            "handle",
            "handle",
            "session"
          ])
          const [session] = yield* ledger.held
          assert.deepStrictEqual(session?.attributes, { principal: "alice" }, "an operator sees whose it is")
        })
      )
      yield* TestClock.adjust(0)
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.provide(layerSessions))
  )

  it.effect("requests that come and go at the same time never meet a session that is just being let go", () =>
    sweep(
      Effect.gen(function* () {
        const { record, token } = yield* login
        yield* Effect.forEach(
          Array.from({ length: 20 }, (_, index) => index),
          () =>
            Effect.scoped(
              Effect.gen(function* () {
                const context = yield* AppSession.open(token)
                const lifetime = yield* Effect.provideContext(
                  Effect.flatMap(AppSession, ({ lifetime }) => lifetime),
                  context
                )
                yield* Effect.yieldNow
                assert.isFalse(lifetime.isEnding())
              })
            ),
          { concurrency: 5, discard: true }
        )
        yield* (yield* Sessions.Sessions).end(record.id)
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(layerSessions)))
    )
  )
})
