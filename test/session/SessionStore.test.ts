import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { sweep } from "../../src/testing/InterruptSweep.ts"
import { keysOf } from "../support/redis.ts"
import { contradictions, redisWorld } from "../support/redisSessions.ts"
import { pgWorld, unprunedStore } from "../support/sessions.ts"
import { create, newToken, outcome, session, sessionStoreLaws, type World } from "./sessionStoreLaws.ts"

sessionStoreLaws("MemorySessionStore", (name, body) =>
  it.effect(name, () =>
    Effect.flatMap(SessionStore, (store) => body({ store, another: store, advance: TestClock.adjust })).pipe(
      Effect.provide(unprunedStore)
    )
  )
)

sessionStoreLaws("MemorySessionStore, suspended wherever it can be", (name, body) =>
  it.effect(name, () =>
    sweep(
      Effect.flatMap(SessionStore, (store) => body({ store, another: store, advance: TestClock.adjust })).pipe(
        Effect.provide(Layer.fresh(unprunedStore))
      ),
      { steps: [3, 5, 8, 13, 21] }
    )
  )
)

sessionStoreLaws("PgSessionStore", (name, body) => it.live(name, () => Effect.flatMap(pgWorld, body)))

sessionStoreLaws("RedisSessionStore", (name, body) => it.live(name, () => Effect.flatMap(redisWorld, body)))

const presentedInVain = ({ advance, another, store }: World) =>
  Effect.gen(function* () {
    const [expired, revoked, living, unknown] = [session(), session(), session({ principal: "bob" }), newToken()]
    const renewed = newToken()
    yield* create(store, expired)
    yield* store.renew({ token: expired.token, next: renewed })
    yield* advance("31 minutes")
    yield* store.revoke((yield* create(store, revoked)).id)
    yield* create(store, living)
    const [later, visitors] = [session({ maxPerPrincipal: 10 }), session({ principal: null })]
    yield* create(store, { ...visitors, instead: revoked.token })
    for (const instead of [renewed, living.token, unknown]) {
      yield* create(store, { ...later, token: instead === renewed ? later.token : newToken(), instead })
    }
    for (const instance of [store, another]) {
      const told = (token: typeof unknown) => outcome(instance.load(token))
      assert.deepStrictEqual(
        yield* Effect.all([renewed, revoked.token, expired.token, living.token, unknown].map(told)),
        ["SessionSuperseded", "SessionSuperseded", "SessionExpired", "ok", "SessionMissing"]
      )
      assert.strictEqual(
        yield* outcome(instance.renew({ token: revoked.token, next: newToken() })),
        "SessionSuperseded"
      )
    }
    assert.strictEqual(yield* outcome(store.load(visitors.token)), "ok")
    // It shares the fate of the session that took its place.
    yield* advance(Duration.hours(1))
    assert.strictEqual(yield* outcome(another.load(revoked.token)), "SessionExpired")
  })

it.effect("a token presented in vain is one of the session that took its place, in memory", () =>
  Effect.flatMap(SessionStore, (store) => presentedInVain({ store, another: store, advance: TestClock.adjust })).pipe(
    Effect.provide(unprunedStore)
  )
)

it.live("a token presented in vain is one of the session that took its place, in PostgreSQL", () =>
  Effect.flatMap(pgWorld, presentedInVain)
)

it.live("a token presented in vain is one of the session that took its place, in Redis", () =>
  Effect.gen(function* () {
    const world = yield* redisWorld
    yield* presentedInVain(world)
    assert.deepStrictEqual(yield* contradictions(world.client, world.prefix), [])
    // Whichever of the two goes first, no token stays behind.
    yield* world.advance("10 days")
    while ((yield* world.store.prune(1)).sessions > 0) {
      assert.deepStrictEqual(yield* contradictions(world.client, world.prefix), [])
    }
    assert.deepStrictEqual(yield* keysOf(world.client, world.prefix), [])
  })
)

for (const { name, world } of [
  { name: "PgSessionStore", world: pgWorld },
  { name: "RedisSessionStore", world: redisWorld }
]) {
  describe(name, () => {
    // In real time: to move the clock of a store writes every session, so that nothing is remembered any more.
    it.live("S5 a session that is loaded all the time never expires, whatever is remembered of it", () =>
      Effect.gen(function* () {
        const { store } = yield* world
        const wanted = session({ idleTimeout: Duration.seconds(2) })
        yield* create(store, wanted)
        const began = performance.now()
        while (performance.now() - began < 4000) {
          assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok", `${performance.now() - began} ms`)
          yield* Effect.sleep("50 millis")
        }
      })
    )
  })
}
