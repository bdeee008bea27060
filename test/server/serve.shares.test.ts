/** I3 on the running service: whatever some users or networks fill, others log in and run their queries. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { problemOf, rowsOf, run, settled, submit } from "../support/browser.ts"
import * as Service from "../support/service.ts"

const env = {
  HOLDFAST_TRUSTED_PROXIES: "127.0.0.0/8,::1/128",
  HOLDFAST_QUERY_TIMEOUT: "30 minutes",
  HOLDFAST_QUERY_MAX_TIMEOUT: "1 hour",
  HOLDFAST_QUERY_TIMEOUTS: "hasty=300 millis"
}

layer(Service.layerShared(env), { excludeTestServices: true, timeout: "90 seconds" })("shares of the service", (it) => {
  const userOf = (name: string) =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      yield* Service.addUser(service, name)
      return yield* service.login(name)
    })

  it.effect("I3 two users who fill every place with pg_sleep(86400): the queries of three others run at once", () =>
    Effect.gen(function* () {
      const greedy = [yield* userOf("greedy one"), yield* userOf("greedy two")]
      const ids = yield* Effect.forEach(greedy, (browser) =>
        Effect.forEach(Array.from({ length: 20 }), () => submit(browser, "select pg_sleep(86400)"))
      )
      const others = yield* Effect.forEach(["third", "fourth", "fifth"], userOf, { concurrency: 3 })
      for (const browser of others) assert.deepStrictEqual(yield* rowsOf(browser, "select 1"), [[1]])
      yield* Effect.forEach(greedy, (browser, index) =>
        Effect.forEach(ids[index] ?? [], (id) => browser.send("DELETE", `/queries/${id}`), { concurrency: 10 })
      )
    })
  )

  it.effect("a query has the operator's time, a user their own, and a call may ask for more up to the most", () =>
    Effect.gen(function* () {
      const hasty = yield* userOf("hasty")
      const { error } = yield* run(hasty, "select pg_sleep(60)")
      assert.strictEqual(error?.code, "QueryDeadlineExceeded")
      assert.include(error?.message ?? "", "300 ms")
      const ask = (browser: typeof hasty, timeoutMs: number) =>
        browser.send("POST", "/queries", { json: { sql: "select 1", timeoutMs } })
      const refused = yield* ask(hasty, 301)
      assert.deepStrictEqual([refused.status, problemOf(refused).code], [400, "RequestInvalid"])
      assert.include(problemOf(refused).detail ?? "", "300")
      const demo = yield* Service.Demo
      assert.include(problemOf(yield* ask(demo, 3_600_001)).detail ?? "", "3600000")
      assert.strictEqual((yield* ask(demo, 3_600_000)).status, 202)
      assert.strictEqual((yield* settled(demo, yield* submit(demo, "select 1"))).state, "Succeeded")
    })
  )

  it.effect(
    "I3 a site that rotates its /64s floods the logins: nobody else is refused, nor waits for more than a few",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        const login = (address: string, username: string, password: string) =>
          service.browser().send("POST", "/login", {
            json: { username, password },
            headers: { "x-forwarded-for": address }
          })
        let [round, refused] = [0, 0]
        const flood = Effect.forEach(
          Array.from({ length: 125 }, (_, index) => index),
          (index) =>
            Effect.forever(
              Effect.tap(
                login(`2001:db8:bad:${(index + 125 * round++).toString(16)}::1`, `x${index}`, "wrong"),
                ({ status }) => Effect.sleep(status === 429 && refused++ >= 0 ? "500 millis" : "0 millis")
              )
            ),
          { concurrency: "unbounded", discard: true }
        )
        const flooding = yield* Effect.forkChild(flood)
        yield* Effect.repeat(Effect.sleep("20 millis"), { until: () => refused > 20 })
        // Two of an office whose people share one address, and one of the flood's own provider.
        const statuses = yield* Effect.forEach(
          ["192.0.2.7", "2001:db8:600d:1::1", "2001:470::1", "203.0.113.1", "203.0.113.1"],
          (address) => Effect.map(login(address, "demo", Service.demoPassword), ({ status }) => status),
          { concurrency: "unbounded" }
        )
        yield* Fiber.interrupt(flooding)
        assert.deepStrictEqual(new Set(statuses), new Set([200]))
      }),
    60_000
  )
})
