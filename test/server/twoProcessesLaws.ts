import { assert, layer, type Vitest } from "@effect/vitest"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { type Answer, type Browser, login, make as makeBrowser, submit } from "../support/browser.ts"
import type * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"
import * as SessionCalls from "../support/sessionCalls.ts"

const { copyOf, data, devices, patch, refusal, session, tokenOf } = SessionCalls

const hour = 3_600_000

/** Two processes on one store: in different time zones, one of them an hour ahead, and deaf when told so. */
export class Pair extends Context.Service<
  Pair,
  {
    readonly a: Service.Service
    readonly b: string
    readonly network: FaultProxy.FaultProxy
    /** For the store, time goes on. */
    readonly travel: (by: Duration.Input) => Effect.Effect<void, unknown>
    /** Changes with every write to a session that is stored. */
    readonly written: (id: string) => Effect.Effect<string, unknown>
  }
>()("test/Pair") {}

/** Starts the other process, an hour ahead, with these variables besides those of the first. */
export const startBeside = Effect.fnUntraced(function* (a: Service.Service, env: Service.Environment) {
  const beside = yield* Service.launch({
    args: ["serve"],
    env: { ...a.env, ...env, TZ: "America/New_York", ...SkewedClock.environment("1 hour") }
  })
  const b = yield* Service.listening(beside)
  yield* Service.ready(b)
  return b
})

/** The time zone of the first, and the origin of both: there is one cookie, as behind a load balancer. */
export const zone = { TZ: "Asia/Tokyo", HOLDFAST_ORIGIN: "http://localhost:3000" }

/** The same session on the other instance. */
const onB = (browser: Browser) => Effect.map(Pair, ({ b }) => copyOf(browser, b))

/** A user of a test's own, logged in to A or B. */
export const newUser = Effect.fnUntraced(function* (name: string) {
  const { a, b } = yield* Pair
  yield* SessionCalls.addUser(a.own.name, name)
  const credentials = { username: name, password: Service.demoPassword }
  return {
    credentials,
    loginA: Effect.suspend(() => login(makeBrowser(a.url), credentials)),
    loginB: Effect.suspend(() => login(makeBrowser(b), credentials))
  }
})

const longQuery = (browser: Browser, mark: string) =>
  Effect.gen(function* () {
    const { a } = yield* Pair
    yield* submit(browser, `select pg_sleep(600) as ${mark}`)
    yield* Service.runs(a.queries.name, mark)
  })

/** Nothing with this mark runs any more, within this time. */
const ends = (mark: string, within: Duration.Input) =>
  Effect.flatMap(Pair, ({ a }) =>
    eventually(Service.statements(a.queries.name), (all) => !all.some((sql) => sql.includes(mark)), within)
  )

const travel = (by: Duration.Input) => Effect.flatMap(Pair, (pair) => pair.travel(by))

const statusesOf = (answers: ReadonlyArray<Answer>) => answers.map(({ status }) => status)

/**
 * What two processes on one store promise together. `"deaf"` is for a pair of which one hears of no end: all but the ends
 * that must be heard, and the one that nobody tells anyway.
 */
export const laws = (
  name: string,
  pair: Layer.Layer<Pair, unknown>,
  which: "all" | "deaf" = "all",
  more: (it: Vitest.MethodsNonLive<Pair>) => void = () => undefined
) =>
  layer(pair, { excludeTestServices: true, timeout: "90 seconds" })(name, (it) => {
    it.effect("S1 a login on one is valid on the other at once, and what was written is read back there", () =>
      Effect.gen(function* () {
        const { loginA, loginB } = yield* newUser("ada")
        for (const [from, index] of [
          [loginA, 1],
          [loginB, 2]
        ] as const) {
          const browser = yield* from
          const { a, b } = yield* Pair
          const other = copyOf(browser, browser.url === b ? a.url : b)
          assert.deepStrictEqual(yield* session(other), yield* session(browser))
          for (let round = 0; round < 10; round++) {
            const [writer, reader] = round % 2 === 0 ? [browser, other] : [other, browser]
            const written = yield* patch(writer, { round, index })
            assert.deepStrictEqual(yield* data(reader), SessionCalls.dataOf(written))
          }
        }
      })
    )

    it.effect("S2 parallel patches over both all take effect", () =>
      Effect.gen(function* () {
        const browser = yield* (yield* newUser("edsger")).loginA
        const other = yield* onB(browser)
        const keys = Array.from({ length: 24 }, (_, index) => `key${index}`)
        const answers = yield* Effect.forEach(
          keys,
          (key, index) => patch(index % 2 === 0 ? browser : other, { [key]: 1 }),
          {
            concurrency: "unbounded"
          }
        )
        assert.deepStrictEqual(
          statusesOf(answers),
          keys.map(() => 200)
        )
        assert.sameMembers(Object.keys(JSON.parse((yield* data(other)).text)), keys)
      })
    )

    it.effect("S3 nothing that is written on one brings back a session that ended on the other", () =>
      Effect.gen(function* () {
        const { loginA } = yield* newUser("grace")
        for (let round = 0; round < 3; round++) {
          const browser = yield* loginA
          const writers = Array.from({ length: 6 }, () => patch(copyOf(browser, browser.url), { round }))
          const other = yield* onB(browser)
          const elsewhere = Array.from({ length: 6 }, () => patch(copyOf(other), { round }))
          const [answers] = yield* Effect.all(
            [
              Effect.all([...writers, ...elsewhere], { concurrency: "unbounded" }),
              copyOf(browser).send("POST", "/logout")
            ],
            { concurrency: "unbounded" }
          )
          for (const { status } of answers) assert.include([200, 401], status)
          assert.strictEqual(yield* refusal(browser), "SessionRevoked")
          assert.strictEqual(yield* refusal(other), "SessionRevoked")
          assert.strictEqual((yield* patch(other, { round })).status, 401)
          assert.strictEqual((yield* patch(browser, { round })).status, 401)
        }
      })
    )

    it.effect("S4 the store's clock decides: an hour ahead nobody is refused early, and on both at the same time", () =>
      Effect.gen(function* () {
        const { loginA, loginB } = yield* newUser("alan")
        for (const from of [loginA, loginB]) {
          const browser = yield* from
          const { a, b } = yield* Pair
          const other = copyOf(browser, browser.url === b ? a.url : b)
          const { createdAt, expiresAt, idleExpiresAt } = yield* session(other)
          const now = yield* DateTime.now
          assert.isBelow(Math.abs(DateTime.toEpochMillis(createdAt) - DateTime.toEpochMillis(now)), 60_000)
          assert.strictEqual(DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(createdAt), 12 * hour)
          assert.isAtLeast(DateTime.toEpochMillis(idleExpiresAt) - DateTime.toEpochMillis(createdAt), 0.5 * hour)
          yield* travel("29 minutes")
          assert.strictEqual((yield* other.send("GET", "/session")).status, 200)
          assert.strictEqual((yield* browser.send("GET", "/session")).status, 200)
          yield* travel("32 minutes")
          assert.strictEqual(yield* refusal(copyOf(browser)), "SessionExpired")
          assert.strictEqual(yield* refusal(copyOf(other)), "SessionExpired")
        }
      })
    )

    it.effect(
      "S5 an active session is written at most once per touch interval, whichever instance it is active on",
      () =>
        Effect.gen(function* () {
          const browser = yield* (yield* newUser("barbara")).loginA
          const other = yield* onB(browser)
          const { id } = yield* session(browser)
          const written = Effect.flatMap(Pair, (pair) => pair.written(id))
          const useIt = Effect.forEach(
            Array.from({ length: 20 }),
            (_, index) => session(index % 2 === 0 ? browser : other),
            {
              concurrency: 4
            }
          )
          const atFirst = yield* written
          yield* useIt
          assert.strictEqual(yield* written, atFirst)
          for (let round = 0; round < 3; round++) {
            yield* travel("2 minutes")
            const before = yield* written
            yield* session(round % 2 === 0 ? browser : other)
            const touched = yield* eventually(written, (now) => now !== before)
            yield* useIt
            assert.strictEqual(yield* written, touched)
          }
        })
    )

    it.effect(
      "S6 a login on one kills the token on the other at once; parallel renewals over both arrive at one token",
      () =>
        Effect.gen(function* () {
          const { credentials, loginA } = yield* newUser("niklaus")
          const browser = yield* loginA
          const before = yield* onB(browser)
          yield* session(before)
          yield* login(browser, credentials)
          assert.strictEqual(yield* refusal(before), "SessionMissing")

          for (let minutes = 0; minutes < 60; minutes += 20) {
            yield* session(browser)
            yield* travel("20 minutes")
          }
          const other = yield* onB(browser)
          const old = tokenOf(browser)
          const copies = Array.from({ length: 12 }, (_, index) => copyOf(index % 2 === 0 ? browser : other))
          yield* Effect.forEach(copies, session, { concurrency: "unbounded" })
          const tokens = new Set(copies.map(tokenOf))
          assert.strictEqual(tokens.size, 1)
          assert.isFalse(tokens.has(old))
          const [first = browser, second = other] = copies
          yield* session(first)
          yield* session(second)
          yield* travel("31 seconds")
          assert.strictEqual(yield* refusal(copyOf(browser)), "SessionMissing")
          assert.strictEqual(yield* refusal(copyOf(other)), "SessionMissing")
          yield* session(first)
          yield* session(second)
        })
    )

    it.effect(
      "S7 ending all others ends those on the other instance, and logins under way end up on one side or the other",
      () =>
        Effect.gen(function* () {
          const { credentials, loginA, loginB } = yield* newUser("dennis")
          const mine = yield* loginA
          const elsewhere = yield* loginB
          yield* longQuery(elsewhere, "of_dennis")
          const { a, b } = yield* Pair
          const late = [makeBrowser(a.url), makeBrowser(b)]
          const logins = late.map((browser) => browser.send("POST", "/login", { json: credentials }))
          const [answer, ...attempts] = yield* Effect.all([mine.send("DELETE", "/sessions"), ...logins], {
            concurrency: "unbounded"
          })
          assert.strictEqual(answer?.status, 204)
          // A login that had begun before is refused: the revocation is about all that there was.
          for (const { status } of attempts) assert.include([200, 401], status)
          yield* ends("of_dennis", which === "deaf" ? "15 seconds" : "2 seconds")
          assert.strictEqual(yield* refusal(elsewhere), "SessionRevoked")
          const alive = yield* devices(mine)
          const statuses = statusesOf(yield* Effect.forEach(late, (browser) => browser.send("GET", "/session")))
          assert.strictEqual(alive.length, 1 + statuses.filter((status) => status === 200).length)
          assert.strictEqual((yield* mine.send("DELETE", "/sessions")).status, 204)
          for (const browser of late) assert.strictEqual((yield* browser.send("GET", "/session")).status, 401)
        })
    )

    it.effect("S8 the cap holds under parallel logins over both, and the oldest make room", () =>
      Effect.gen(function* () {
        const { loginA, loginB } = yield* newUser("ken")
        const oldest = yield* loginA
        const browsers = yield* Effect.all(
          Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? loginA : loginB)),
          { concurrency: "unbounded" }
        )
        const answers = yield* Effect.forEach([oldest, ...browsers], (browser) => browser.send("GET", "/session"))
        assert.lengthOf(
          answers.filter(({ status }) => status === 200),
          5
        )
        assert.strictEqual(answers[0]?.status, 401)
        const alive = browsers.find((_, index) => answers[index + 1]?.status === 200) ?? oldest
        assert.lengthOf(yield* devices(alive), 5)
      })
    )

    if (which !== "deaf") {
      it.effect("S9 a logout on one ends the running query on the other within 2 seconds", () =>
        Effect.gen(function* () {
          const { loginA } = yield* newUser("tony")
          const browser = yield* loginA
          const other = yield* onB(browser)
          yield* longQuery(other, "of_tony")
          assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
          yield* ends("of_tony", "2 seconds")
          assert.strictEqual(yield* refusal(other), "SessionRevoked")
        })
      )

      it.effect("S9 a session that has to make room ends on the other instance within 2 seconds", () =>
        Effect.gen(function* () {
          const { loginA, loginB } = yield* newUser("donald")
          const oldest = yield* loginB
          yield* longQuery(oldest, "of_donald")
          yield* Effect.all(
            Array.from({ length: 5 }, () => loginA),
            { concurrency: 2 }
          )
          yield* ends("of_donald", "2 seconds")
          assert.strictEqual(yield* refusal(oldest), "SessionRevoked")
        })
      )

      it.effect("S9 when the notification is lost, the query ends within 15 seconds", () =>
        Effect.gen(function* () {
          const { network } = yield* Pair
          const { loginA } = yield* newUser("frances")
          const browser = yield* loginA
          const other = yield* onB(browser)
          yield* longQuery(other, "of_frances")
          yield* Effect.acquireUseRelease(
            network.loseNotifications(true),
            () =>
              Effect.gen(function* () {
                assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
                // Lost or not, the token is dead at once: the store is asked.
                assert.strictEqual(yield* refusal(other), "SessionRevoked")
                yield* ends("of_frances", "15 seconds")
                assert.isAbove(yield* network.lost, 0)
              }),
            () => network.loseNotifications(false)
          )
        })
      )
    }

    if (which === "all")
      it.effect("S9 when a session expires, its query on either instance ends within 15 seconds", () =>
        Effect.gen(function* () {
          const { loginA } = yield* newUser("margaret")
          const browser = yield* loginA
          yield* longQuery(browser, "of_margaret_on_a")
          yield* longQuery(yield* onB(browser), "of_margaret_on_b")
          yield* travel("32 minutes")
          yield* ends("of_margaret_on", "15 seconds")
        })
      )

    more(it)
  })
