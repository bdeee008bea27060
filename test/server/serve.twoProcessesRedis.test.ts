import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { make as makeBrowser } from "../support/browser.ts"
import * as RedisService from "../support/redisService.ts"
import { sessionKey } from "../support/redisSessions.ts"
import { laws, newUser, Pair, startBeside, zone } from "./twoProcessesLaws.ts"

laws(
  "two processes on one Redis",
  Layer.effect(
    Pair,
    Effect.gen(function* () {
      const { redis, server, service } = yield* RedisService.start(zone)
      const network = yield* FaultProxy.to(server.url)
      const b = yield* startBeside(service, { REDIS_URL: Redacted.value(network.url) })
      return {
        a: service,
        b,
        network,
        travel: service.travel,
        written: (id) => Effect.map(redis.send("GET", sessionKey("holdfast", id)), String)
      }
    })
  ),
  "all",
  (it) => {
    it.effect("failed logins count over both: ten on one are all, and the right password is refused on the other", () =>
      Effect.gen(function* () {
        const { a, b } = yield* Pair
        const { credentials } = yield* newUser("mallory")
        const attempt = (url: string, json: unknown) =>
          Effect.map(makeBrowser(url).send("POST", "/login", { json }), ({ status }) => status)
        const wrong = Array.from({ length: 12 }, () => attempt(a.url, { ...credentials, password: "wrong" }))
        const statuses = yield* Effect.all(wrong, { concurrency: 4 })
        assert.deepStrictEqual(statuses.toSorted(), [...Array.from({ length: 10 }, () => 401), 429, 429])
        assert.strictEqual(yield* attempt(b, credentials), 429)
      })
    )
  }
)
