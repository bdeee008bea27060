/** What the service does where its databases lose connections or give it few of them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { login, rowsOf, settled, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as RedisService from "../support/redisService.ts"
import * as Service from "../support/service.ts"

const statusOf = (service: Service.Service) =>
  Effect.map(service.browser().send("GET", "/health/ready"), ({ status }) => status)

describe("connections of the service", { timeout: 90_000 }, () => {
  it.live(
    "a role with fewer connections than may run: all queries succeed, and the service is ready all the time",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.startService({
          env: { HOLDFAST_MAX_QUERIES: "10", HOLDFAST_MAX_QUERIES_PER_USER: "10" }
        })
        const browser = yield* service.login()
        yield* Service.administer(`alter role ${service.queries.role} connection limit 5`)
        const ids = yield* Effect.forEach(Array.from({ length: 10 }), () => submit(browser, "select pg_sleep(1)"), {
          concurrency: "unbounded"
        })
        const states = yield* Effect.forkChild(
          Effect.forEach(ids, (id) => settled(browser, id), { concurrency: "unbounded" })
        )
        const seen: Array<number> = []
        yield* Effect.repeat(
          Effect.map(statusOf(service), (status) => seen.push(status)),
          { until: () => states.pollUnsafe() !== undefined }
        )
        assert.deepStrictEqual(
          (yield* Fiber.join(states)).map(({ state }) => state),
          ids.map(() => "Succeeded")
        )
        assert.deepStrictEqual(new Set(seen), new Set([200]))
        assert.strictEqual(service.stdout().match(/makes do with the connections/g)?.length, 1, service.stdout())
      })
  )

  it.live("C10 after the connections of queries died without a word, the next ones succeed within 5 seconds", () =>
    Effect.gen(function* () {
      const databases = yield* Service.freshDatabases
      const { queries } = databases
      const proxy = yield* FaultProxy.to(queries.url)
      const service = yield* Service.startService({
        databases,
        env: { HOLDFAST_QUERY_URL: Redacted.value(proxy.url) }
      })
      const browser = yield* service.login()
      const three = Effect.forEach([1, 2, 3], () => rowsOf(browser, "select 1 from pg_sleep(0.2)"), {
        concurrency: "unbounded"
      })
      yield* three
      const running = yield* submit(browser, "select pg_sleep(3)")
      yield* Service.runs(queries.name, "pg_sleep(3)")
      yield* Effect.sleep("1100 millis")
      yield* proxy.swallowOpen
      const begun = performance.now()
      assert.deepStrictEqual(yield* rowsOf(browser, "select 1"), [[1]])
      assert.isBelow(performance.now() - begun, 5000)
      yield* three
      const lost = yield* settled(browser, running)
      assert.isBelow(performance.now() - begun, 15_000)
      assert.strictEqual(lost.state, "Failed")
    })
  )

  it.live("the users' database was frozen, with sessions in Redis: when the service is ready, a login works", () =>
    Effect.gen(function* () {
      const { env, own } = yield* Service.freshDatabases
      const network = yield* FaultProxy.to(own.url)
      const { service } = yield* RedisService.start({ ...env, DATABASE_URL: Redacted.value(network.url) })
      yield* service.login()
      yield* network.silence
      const credentials = { username: "demo", password: Service.demoPassword }
      // Several at once, so that every connection is dead.
      yield* Effect.forEach(
        [1, 2, 3],
        () =>
          Effect.map(service.browser().send("POST", "/login", { json: credentials }), ({ status }) =>
            assert.strictEqual(status, 503)
          ),
        { concurrency: "unbounded" }
      )
      yield* eventually(statusOf(service), (status) => status === 503)
      yield* network.speak
      yield* eventually(statusOf(service), (status) => status === 200, "20 seconds")
      yield* Effect.forEach([1, 2, 3], () => login(service.browser(), credentials))
    })
  )
})
