import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Session from "../../src/session/Session.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import type { SessionToken } from "../../src/session/SessionToken.ts"
import { sweep } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { unprunedStore } from "../support/sessions.ts"

class AppSession extends Session.Service<AppSession>()("test/AppSession", {
  data: Schema.Null,
  initial: null
}) {}

/** Something that an app holds per session, such as a connection to somebody's mailbox. */
class Mailbox extends Context.Service<Mailbox, { readonly number: number }>()("test/Mailbox") {}

const layerSessions = Sessions.layer().pipe(
  Layer.provideMerge(unprunedStore),
  Layer.provideMerge(Ledger.layer),
  Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "None"))
)

const world = Effect.sync(() => {
  const story: Array<string> = []
  let built = 0
  const layer = Layer.effect(
    Mailbox,
    Effect.acquireRelease(
      Effect.sync(() => {
        story.push(`open ${++built}`)
        return { number: built }
      }),
      ({ number }) => Effect.sync(() => story.push(`close ${number}`))
    )
  )
  return { layer, story }
})

/** A request with the session of a token. */
const request = <A, E, R>(token: SessionToken, work: Effect.Effect<A, E, R>) =>
  Effect.provide(work, AppSession.layer(token))
const numberIn = (layer: Layer.Layer<Mailbox>) =>
  Effect.flatMap(AppSession, ({ provide }) => provide(layer)(Effect.map(Mailbox, ({ number }) => number)))
const login = (principal: string) => AppSession.create({ principal })

describe("layers of a session", () => {
  it.effect("are built once per session, also when fresh or asked for at once, and released when it ends", () =>
    sweep(
      Effect.gen(function* () {
        const { layer, story } = yield* world
        const [alice, bob] = yield* Effect.all([login("alice"), login("bob")])
        const fresh = Layer.fresh(layer)
        const numbers = yield* Effect.all(
          Array.from({ length: 8 }, () => request(alice.token, numberIn(fresh))),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          numbers,
          numbers.map(() => 1)
        )
        assert.strictEqual(yield* request(alice.token, numberIn(fresh)), 1, "it outlives the requests")
        assert.strictEqual(yield* request(bob.token, numberIn(fresh)), 2)
        assert.deepStrictEqual(story, ["open 1", "open 2"])
        yield* request(
          alice.token,
          Effect.flatMap(AppSession, ({ logout }) => logout)
        )
        assert.deepStrictEqual(story, ["open 1", "open 2", "close 1"])
        yield* (yield* Sessions.Sessions).end(bob.record.id)
        assert.deepStrictEqual(story.at(-1), "close 2")
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(layerSessions)))
    )
  )

  it.effect("are released after the work that uses them, which fails with SessionRevoked", () =>
    sweep(
      Effect.gen(function* () {
        const { layer, story } = yield* world
        const alice = yield* login("alice")
        const using = Effect.fnUntraced(function* (name: string) {
          const ready = yield* Deferred.make<void>()
          const work = Effect.andThen(Deferred.succeed(ready, undefined), Effect.never).pipe(
            Effect.ensuring(
              Effect.andThen(
                Effect.yieldNow,
                Effect.sync(() => story.push(`${name} over`))
              )
            )
          )
          const provided = Effect.flatMap(AppSession, ({ provide }) => provide(layer)(Effect.andThen(Mailbox, work)))
          const fiber = yield* Effect.forkChild(request(alice.token, Effect.flip(provided)))
          yield* Deferred.await(ready)
          return fiber
        })
        const requests = yield* Effect.forEach(["one", "two"], using)
        yield* (yield* Sessions.Sessions).end(alice.record.id)
        assert.sameMembers(story.slice(0, 3), ["open 1", "one over", "two over"])
        assert.deepStrictEqual(story.slice(3), ["close 1"])
        for (const fiber of requests) assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "SessionRevoked")
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(layerSessions)))
    )
  )

  it.effect("whose build fails are built again by the next who asks", () =>
    Effect.gen(function* () {
      const alice = yield* login("alice")
      let attempts = 0
      const layer = Layer.effect(
        Mailbox,
        Effect.suspend(() =>
          ++attempts < 3 ? Effect.fail("mailbox down" as const) : Effect.succeed({ number: attempts })
        )
      )
      const ask = request(
        alice.token,
        Effect.flatMap(AppSession, ({ provide }) => provide(layer)(Mailbox))
      )
      assert.strictEqual(yield* Effect.flip(ask), "mailbox down")
      assert.strictEqual(yield* Effect.flip(ask), "mailbox down")
      assert.strictEqual((yield* ask).number, 3)
      assert.strictEqual((yield* ask).number, 3)
      yield* (yield* Sessions.Sessions).end(alice.record.id)
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.provide(layerSessions))
  )

  it.effect("hold nothing more when whoever used them is interrupted, at any point", () =>
    sweep(
      Effect.gen(function* () {
        const { layer, story } = yield* world
        const alice = yield* login("alice")
        for (let delay = 0; delay < 16; delay++) {
          const fiber = yield* Effect.forkChild(
            request(
              alice.token,
              Effect.flatMap(AppSession, ({ provide }) => provide(layer)(Effect.andThen(Mailbox, Effect.never)))
            )
          )
          for (let yields = 0; yields < delay; yields++) yield* Effect.yieldNow
          yield* Fiber.interrupt(fiber)
        }
        assert.isAtMost(story.length, 1)
        yield* (yield* Sessions.Sessions).end(alice.record.id)
        assert.deepStrictEqual(story, story.length === 0 ? [] : ["open 1", "close 1"])
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(layerSessions)))
    )
  )

  it.effect("the scope of the work is the caller's", () =>
    Effect.gen(function* () {
      const { layer, story } = yield* world
      const alice = yield* login("alice")
      yield* request(
        alice.token,
        Effect.scoped(
          Effect.gen(function* () {
            const { provide } = yield* AppSession
            yield* provide(layer)(
              Effect.acquireRelease(
                Effect.sync(() => story.push("acquired")),
                () => Effect.sync(() => story.push("released"))
              )
            )
            story.push("still there")
          })
        )
      )
      assert.deepStrictEqual(story, ["open 1", "acquired", "still there", "released"])
    }).pipe(Effect.provide(layerSessions))
  )
})

describe("work of a session", () => {
  it.effect("holds nothing more when it is interrupted before it began", () =>
    Effect.gen(function* () {
      const { token } = yield* login("alice")
      yield* request(
        token,
        Effect.gen(function* () {
          const fiber = yield* (yield* AppSession).run(Effect.never)
          yield* Fiber.interrupt(fiber)
        })
      )
      yield* Effect.yieldNow
      assert.deepStrictEqual(
        (yield* (yield* Ledger.Ledger).held).map(({ kind }) => kind),
        []
      )
    }).pipe(Effect.provide(layerSessions))
  )
})
