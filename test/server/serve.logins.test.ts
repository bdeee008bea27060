import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import { type Answer, problemOf } from "../support/browser.ts"
import * as Service from "../support/service.ts"
import { instance } from "../support/sessions.ts"

const forwarded = (address: string) => ({ "x-forwarded-for": address })

const attempt = (
  service: Service.Service,
  password: string,
  headers: Readonly<Record<string, string>> = {},
  username = "demo"
) => service.browser().send("POST", "/login", { json: { username, password }, headers })

/** A refusal for now, which says in header and body when to come back: within the five minutes. */
const assertTooMany = (answer: Answer) => {
  assert.deepStrictEqual([answer.status, problemOf(answer).code], [429, "TooManyLogins"])
  const { retryAfterSeconds } = Schema.decodeUnknownSync(Schema.Struct({ retryAfterSeconds: Schema.Int }))(answer.json)
  assert.strictEqual(answer.headers.get("retry-after"), String(retryAfterSeconds))
  assert.isTrue(retryAfterSeconds >= 1 && retryAfterSeconds <= 300, answer.text)
  assert.deepStrictEqual(answer.headers.getSetCookie(), [])
}

const fail = (service: Service.Service, count: number, headers?: Readonly<Record<string, string>>) =>
  Effect.forEach(
    Array.from({ length: count }),
    () => Effect.map(attempt(service, "wrong", headers), ({ status }) => status),
    { concurrency: 4 }
  )

describe("the limit of logins", { timeout: 60_000 }, () => {
  it.live(
    "after ten failures of a user from an address it is 429, also for the right password, and not elsewhere",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.startService({
          env: { HOLDFAST_TRUSTED_PROXIES: "10.0.0.0/8, 127.0.0.0/8,::1/128" }
        })
        const mine = forwarded("2001:db8:1:2::1")
        yield* service.login()
        const statuses = yield* fail(service, 12, mine)
        assert.lengthOf(
          statuses.filter((status) => status === 401),
          10
        )
        assertTooMany(yield* attempt(service, Service.demoPassword, mine))
        assertTooMany(yield* attempt(service, "wrong", mine))
        // The client is whom the nearest proxy names, whatever stands left of it; and all of the /64 is one client.
        assertTooMany(
          yield* attempt(service, Service.demoPassword, forwarded("198.51.100.9, 2001:db8:1:2:ffff::, 10.1.2.3"))
        )
        assert.strictEqual((yield* attempt(service, Service.demoPassword, forwarded("2001:db8:1:3::1"))).status, 200)
        assert.strictEqual((yield* attempt(service, "wrong", mine, "alice")).status, 401)
      })
  )

  it.live("without trusted proxies nobody can say that they are somebody else", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      for (let index = 0; index < 10; index++) {
        const answer = yield* attempt(service, "wrong", {
          ...forwarded(`192.0.2.${index}`),
          forwarded: "for=192.0.2.1"
        })
        assert.strictEqual(answer.status, 401)
      }
      assertTooMany(yield* attempt(service, Service.demoPassword, forwarded("192.0.2.100")))
    })
  )

  it.live("S7 a login whose password is being checked while all sessions of the user are ended is refused", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const store = yield* instance({ url: service.own.url })
      let round = 0
      const refused = Effect.gen(function* () {
        round++
        // Two are checked at a time, so the one that matters waits for its turn.
        const others = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 8 }, (_, index) => attempt(service, "wrong", {}, `user ${round} ${index}`)),
            { concurrency: "unbounded" }
          )
        )
        yield* Effect.sleep("100 millis")
        const login = yield* Effect.forkChild(attempt(service, Service.demoPassword))
        yield* Effect.sleep("300 millis")
        yield* store.revokeAll("demo")
        const answer = yield* Fiber.join(login)
        yield* Fiber.join(others)
        return answer.status === 200 ? "200" : `${answer.status} ${problemOf(answer).code}`
      })
      // The login may have come late, on a busy machine: it began after the end then.
      const answer = yield* Effect.repeat(refused, { until: (answer) => answer !== "200", times: 3 })
      assert.strictEqual(answer, "401 SessionRevoked")
    })
  )

  it.live("when a hundred logins wait, the next one is 429; those that are given up make room", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService({ env: { HOLDFAST_TRUSTED_PROXIES: "127.0.0.0/8,::1/128" } })
      const [alone] = yield* Effect.timed(service.login())
      const full = yield* Deferred.make<Answer>()
      const flood = Array.from({ length: 120 }, (_, index) =>
        Effect.flatMap(attempt(service, "wrong", forwarded(`192.0.2.${index % 6}`), `user ${index}`), (answer) =>
          answer.status === 429 ? Deferred.succeed(full, answer) : Effect.void
        )
      )
      const waiting = yield* Effect.forkChild(Effect.all(flood, { concurrency: "unbounded" }))
      const answer = yield* Deferred.await(full)
      assertTooMany(answer)
      assert.include(problemOf(answer).detail ?? "", "waiting")
      yield* Fiber.interrupt(waiting)
      // All of them together would take fifty times as long as one does.
      const [took] = yield* Effect.timed(service.login())
      assert.isBelow(Duration.toMillis(took), Duration.toMillis(alone) * 15)
    })
  )
})
