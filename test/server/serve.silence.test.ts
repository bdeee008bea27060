/**
 * C10 from outside: a network that forgets the connections to the databases, while the service is used.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { ownServer } from "../support/redis.ts"
import * as Service from "../support/service.ts"
import { tell } from "../support/silence.ts"

const credentials = { username: "demo", password: Service.demoPassword }

/** Asks until it is answered as it should be; until then only with "unavailable". In milliseconds. */
const untilRight = (what: string, ask: Effect.Effect<{ readonly status: number; readonly text: string }>) =>
  Effect.gen(function* () {
    const began = performance.now()
    const seen: Array<number> = []
    for (;;) {
      const { status, text } = yield* ask
      if (status === 200) break
      seen.push(status)
      assert.strictEqual(status, 503, `${what}: ${text}`)
    }
    const took = performance.now() - began
    tell(`${what}: right after ${Math.round(took)} ms, ${seen.length} times 503 before`)
    return took
  })

const used = Effect.fnUntraced(function* (service: Service.Service) {
  const [took, browser] = yield* Effect.timed(service.login())
  const hash = Duration.toMillis(took)
  const login = Effect.suspend(() => service.browser().send("POST", "/login", { json: credentials }))
  // Every pool has more than one connection open.
  yield* Effect.all(
    Array.from({ length: 8 }, () => Effect.all([login, browser.send("GET", "/session")])),
    { concurrency: "unbounded" }
  )
  // A busy machine takes long to hash a password, which is not the network's doing.
  return { browser, login, limit: 5000 + 2 * hash }
})

describe("a network that forgets its connections", { timeout: 90_000 }, () => {
  it.live("C10 the service answers rightly within five seconds, and logs nobody out, with sessions in PostgreSQL", () =>
    Effect.gen(function* () {
      const databases = yield* Service.freshDatabases
      const network = yield* FaultProxy.to(databases.own.url)
      const service = yield* Service.startService({
        databases,
        env: { HOLDFAST_MAX_SESSIONS: "1000", DATABASE_URL: Redacted.value(network.url) }
      })
      const { browser, limit, login } = yield* used(service)
      yield* network.swallowOpen
      const took = yield* Effect.all(
        [untilRight("GET /session", browser.send("GET", "/session")), untilRight("POST /login", login)],
        { concurrency: "unbounded" }
      )
      for (const millis of took) assert.isBelow(millis, limit)
      const more = [
        yield* untilRight("GET /session again", browser.send("GET", "/session")),
        yield* untilRight("POST /login again", login)
      ]
      for (const millis of more) assert.isBelow(millis, limit - 3000)
    })
  )

  it.live("C10 the same with sessions in Redis", () =>
    Effect.gen(function* () {
      const databases = yield* Service.freshDatabases
      const redis = yield* ownServer()
      const database = yield* FaultProxy.to(databases.own.url)
      const store = yield* FaultProxy.to(redis.url)
      const service = yield* Service.startService({
        databases,
        env: {
          HOLDFAST_MAX_SESSIONS: "1000",
          DATABASE_URL: Redacted.value(database.url),
          HOLDFAST_SESSION_STORE: "redis",
          REDIS_URL: Redacted.value(store.url)
        }
      })
      const { browser, limit, login } = yield* used(service)
      yield* Effect.all([database.swallowOpen, store.swallowOpen])
      const took = yield* Effect.all(
        [untilRight("Redis: GET /session", browser.send("GET", "/session")), untilRight("Redis: POST /login", login)],
        { concurrency: "unbounded" }
      )
      for (const millis of took) assert.isBelow(millis, limit)
    })
  )
})
