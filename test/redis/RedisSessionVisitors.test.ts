/** Visitors' sessions in Redis, a page at a time, while sessions come, go and get other times. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import type { SessionId } from "../../src/session/SessionId.ts"
import type { SessionStore } from "../../src/session/SessionStore.ts"
import { eventually } from "../support/conditions.ts"
import { ownServer } from "../support/redis.ts"
import { instance, redisWorld, rewrite, sessionKey } from "../support/redisSessions.ts"
import { authentication, create, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

type Store = SessionStore["Service"]

const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))

const visitors = (store: Store, count: number) =>
  Effect.forEach(
    times(count, () => session({ principal: null })),
    (wanted) => Effect.map(create(store, wanted), ({ id }) => ({ id, token: wanted.token })),
    { concurrency: 64 }
  )

/** The ids on all pages, in their order; `between` is done after each page but the last. */
const told = Effect.fnUntraced(function* (
  store: Store,
  limit: number,
  between: (page: number) => Effect.Effect<unknown, unknown> = () => Effect.void
) {
  const found: Array<SessionId> = []
  for (let after: string | undefined, page = 0; ; page++) {
    const { next, sessions } = yield* store.visitors({ after, limit })
    assert.isAtMost(sessions.length, limit)
    found.push(...sessions.map(({ id }) => id))
    if (next === undefined) return found
    yield* between(page)
    after = next
  }
})

const idsOf = (sessions: ReadonlyArray<{ readonly id: SessionId }>) => sessions.map(({ id }) => id)

describe("RedisSessionStore, the sessions of visitors", () => {
  it.live("each is told once, though every one of them gets an earlier or later end meanwhile", () =>
    Effect.gen(function* () {
      const { another, store } = yield* redisWorld
      for (const count of [60, 500]) {
        yield* visitors(store, count)
        const all = yield* told(store, 1000)
        for (const limit of [1, 7, 30, 250]) {
          const found = yield* told(another, limit, (page) =>
            // Five times on the way.
            page % Math.ceil(all.length / limit / 5) !== 0
              ? Effect.void
              : Effect.forEach(
                  all,
                  (id, index) => {
                    const hours = (index + page) % 2 === 0 ? 1 : 100
                    return store.setExpiry({
                      id,
                      idleTimeout: Duration.hours(1),
                      absoluteTimeout: Duration.hours(hours)
                    })
                  },
                  { concurrency: 64 }
                )
          )
          assert.deepStrictEqual(found.toSorted(), all.toSorted(), `${limit} of ${count}`)
        }
      }
    })
  )

  it.live("each that lives all the time is told once, though others come, log in and go", () =>
    Effect.gen(function* () {
      const { store } = yield* redisWorld
      for (const limit of [40, 150]) {
        const lasting = yield* visitors(store, 100)
        const passing = yield* visitors(store, 20)
        const known: Array<SessionId> = []
        const principal = `p${limit}`
        const found = yield* told(store, limit, (page) =>
          Effect.gen(function* () {
            yield* visitors(store, page < 5 ? 60 : 0)
            for (const _ of times(5, String)) known.push((yield* create(store, session({ principal }))).id)
            const [gone, arriving] = passing.splice(0, 2)
            if (gone !== undefined) yield* store.revoke(gone.id)
            if (arriving !== undefined) yield* store.authenticate(authentication({ token: arriving.token, principal }))
          })
        )
        assert.lengthOf(new Set(found), found.length)
        assert.includeMembers(found, idsOf(lasting))
        assert.isEmpty(known.filter((id) => found.includes(id)))
      }
    })
  )

  it.live("each is told once, though the server is another process from the second page on", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const store = yield* instance({ url: server.url })
      for (const count of [100, 700]) {
        yield* visitors(store, count)
        const all = yield* told(store, 1000)
        const found = yield* told(store, 90, (page) =>
          page > 1
            ? Effect.void
            : Effect.andThen(
                server.restart,
                eventually(outcome(store.ping), (told) => told === "ok", "5 seconds")
              )
        )
        assert.sameMembers(found, all)
      }
    })
  )

  it.live("what is over is left out, and what cannot be read is left out and logged", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push(String(message)))
    return Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      yield* create(store, session({ principal: null, idleTimeout: Duration.minutes(5) }))
      yield* advance("6 minutes")
      const [revoked, spoiled, other, gone, ...living] = yield* visitors(store, 9)
      if (!revoked || !spoiled || !other || !gone) return assert.fail()
      yield* store.revoke(revoked.id)
      yield* rewrite(client, prefix, spoiled.id, { renew: "x" })
      yield* client.send("DEL", sessionKey(prefix, other.id))
      yield* client.send("LPUSH", sessionKey(prefix, other.id), "x")
      yield* client.send("DEL", sessionKey(prefix, gone.id))
      const { id } = yield* create(store, session())
      yield* rewrite(client, prefix, id, { renew: "x" })
      assert.sameMembers(yield* told(store, 100), idsOf(living))
      assert.lengthOf(lines, 2)
      assert.isTrue(lines.every((line) => line.includes("left out")))
      assert.isTrue(lines.some((line) => line.includes(spoiled.id)))
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.live("a place that no page told is refused", () =>
    Effect.gen(function* () {
      const { store } = yield* redisWorld
      yield* visitors(store, 3)
      for (const after of [
        "",
        "x",
        "0",
        ".0..",
        "-1.",
        `0.${"s".repeat(32)}`,
        `0.${"a".repeat(31)}`,
        "0..",
        "\0",
        `${"9".repeat(30)}.`
      ]) {
        assert.strictEqual(yield* outcome(store.visitors({ after, limit: 1 })), "SessionInvalid", after)
      }
      const { next } = yield* store.visitors({ limit: 1 })
      assert.lengthOf((yield* store.visitors({ after: next, limit: 10 })).sessions, 2)
    })
  )
})
