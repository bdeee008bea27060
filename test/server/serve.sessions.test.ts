import { assert, layer, type Vitest } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { cookieName, type Browser, problemOf, queriesOf, settled, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as RedisService from "../support/redisService.ts"
import * as Service from "../support/service.ts"
import * as SessionCalls from "../support/sessionCalls.ts"

const { copyOf, data, dataOf, devices, patch, refusal, session, tokenOf } = SessionCalls

const put = (browser: Browser, json: unknown, etag?: string) =>
  browser.send("PUT", "/session/data", { json, ...(etag !== undefined && { headers: { "if-match": etag } }) })

/** A user of a test's own, so that nobody's sessions have to make room for another test's. */
const newUser = (name: string) =>
  Effect.gen(function* () {
    const { login, own } = yield* Service.Shared
    yield* SessionCalls.addUser(own.name, name)
    return Effect.suspend(() => login(name))
  })

/** A query that runs until somebody ends it. */
const longQuery = (browser: Browser, mark: string) =>
  Effect.gen(function* () {
    const { queries } = yield* Service.Shared
    const id = yield* submit(browser, `select pg_sleep(600) as ${mark}`)
    yield* Service.runs(queries.name, mark)
    return id
  })

/** Nothing with this mark runs on the server, now. */
const isGone = (mark: string) =>
  Effect.gen(function* () {
    const { queries } = yield* Service.Shared
    const running = yield* Service.statements(queries.name)
    assert.deepStrictEqual(
      running.filter((sql) => sql.includes(mark)),
      []
    )
  })

/** For the store, time goes on. */
const travel = (by: Duration.Input) => Effect.flatMap(Service.Shared, (service) => service.travel(by))

const calls = (it: Vitest.MethodsNonLive<Service.Shared | Service.Demo>) => {
  it.effect("S1 data that was written is read back, with the version as ETag", () =>
    Effect.gen(function* () {
      const browser = yield* Effect.flatten(newUser("ada"))
      const empty = yield* data(browser)
      assert.strictEqual(empty.text, "{}")
      assert.match(empty.etag, /^"\d+"$/)

      const first = yield* patch(browser, { cart: ["apple"], note: { a: 1, b: 2 } })
      assert.strictEqual(first.status, 200, first.text)
      assert.deepStrictEqual(first.json, { cart: ["apple"], note: { a: 1, b: 2 } })
      assert.notStrictEqual(dataOf(first).etag, empty.etag)
      assert.deepStrictEqual(yield* data(browser), dataOf(first))

      const merged = yield* browser.send("PATCH", "/session/data", {
        body: '{"note":{"a":null,"c":3},"cart":["pear"]}',
        headers: { "content-type": "application/merge-patch+json" }
      })
      assert.deepStrictEqual(merged.json, { cart: ["pear"], note: { b: 2, c: 3 } })
      const again = yield* patch(browser, { cart: ["pear"] })
      assert.deepStrictEqual(dataOf(again), dataOf(merged))
      assert.strictEqual(again.headers.get("cache-control"), "no-store")
    })
  )

  it.effect("PUT replaces the version it names and no other", () =>
    Effect.gen(function* () {
      const browser = yield* Effect.flatten(newUser("grace"))
      const without = yield* put(browser, { a: 1 })
      assert.deepStrictEqual([without.status, problemOf(without).code], [428, "PreconditionRequired"])
      const { etag } = yield* data(browser)
      const first = yield* put(browser, { a: 1 }, etag)
      assert.deepStrictEqual([first.status, first.text], [200, '{"a":1}'])
      for (const stale of [
        etag,
        '"0"',
        '"999"',
        '"x"',
        `W/${dataOf(first).etag}`,
        dataOf(first).etag.replaceAll('"', "'"),
        "1",
        ""
      ]) {
        const refused = yield* put(browser, { a: 2 }, stale)
        assert.isTrue([400, 412, 428].includes(refused.status), `${stale}: ${refused.text}`)
        problemOf(refused)
      }
      const conflict = yield* put(browser, { a: 2 }, etag)
      assert.deepStrictEqual([conflict.status, problemOf(conflict).code], [412, "SessionConflict"])
      assert.deepStrictEqual(yield* data(browser), dataOf(first))
      assert.strictEqual((yield* put(browser, { a: 3 }, `"0", ${dataOf(first).etag}`)).text, '{"a":3}')
      assert.strictEqual((yield* put(browser, { a: 4 }, "*")).text, '{"a":4}')
    })
  )

  it.effect("S2 parallel patches all take effect, and of parallel replacements exactly one", () =>
    Effect.gen(function* () {
      const browser = yield* Effect.flatten(newUser("edsger"))
      const keys = Array.from({ length: 20 }, (_, index) => `key${index}`)
      const answers = yield* Effect.forEach(keys, (key) => patch(browser, { [key]: 1 }), { concurrency: "unbounded" })
      assert.deepStrictEqual(
        answers.map(({ status }) => status),
        keys.map(() => 200)
      )
      const { etag, text } = yield* data(browser)
      assert.sameMembers(Object.keys(JSON.parse(text)), keys)
      const all = yield* Effect.forEach(keys, (key) => put(browser, { [key]: 1 }, etag), { concurrency: "unbounded" })
      assert.lengthOf(
        all.filter(({ status }) => status === 200),
        1
      )
      assert.lengthOf(
        all.filter(({ status }) => status === 412),
        keys.length - 1
      )
    })
  )

  it.effect("a user sees their devices, and nobody else's", () =>
    Effect.gen(function* () {
      const login = yield* newUser("barbara")
      const { browser, login: loginDemo } = yield* Service.Shared
      const phone = browser()
      const agent = { "user-agent": `phone ${"x".repeat(600)}` }
      const json = { username: "barbara", password: Service.demoPassword }
      assert.strictEqual((yield* phone.send("POST", "/login", { json, headers: agent })).status, 200)
      const laptop = yield* login
      yield* loginDemo()
      const list = yield* devices(laptop)
      assert.deepStrictEqual(
        list.map(({ current, id }) => [id, current]),
        [
          [(yield* session(laptop)).id, true],
          [(yield* session(phone)).id, false]
        ]
      )
      for (const { createdAt, expiresAt, ip, lastSeenAt } of list) {
        assert.strictEqual(ip, "127.0.0.1")
        assert.isTrue(DateTime.isLessThanOrEqualTo(createdAt, lastSeenAt))
        assert.isTrue(DateTime.isLessThan(lastSeenAt, expiresAt))
      }
      assert.match(list[1]?.userAgent ?? "", /^phone x{500,}$/)
      assert.isAtMost(list[1]?.userAgent?.length ?? 0, 512)
    })
  )

  it.effect("S9 ending another device's session releases what it held before the answer, and its token is dead", () =>
    Effect.gen(function* () {
      const login = yield* newUser("ken")
      const [lost, mine] = [yield* login, yield* login]
      yield* longQuery(lost, "on_the_lost_one")
      yield* longQuery(mine, "on_mine")
      const { id } = yield* session(lost)
      assert.strictEqual((yield* mine.send("DELETE", `/sessions/${id}`)).status, 204)
      yield* isGone("on_the_lost_one")
      assert.strictEqual(yield* refusal(lost), "SessionRevoked")
      assert.lengthOf(yield* devices(mine), 1)
      assert.strictEqual((yield* mine.send("DELETE", `/sessions/${id}`)).status, 404)
      const { queries } = yield* Service.Shared
      yield* Service.runs(queries.name, "on_mine")
      // Q4: what ended is the work, not the record of it.
      yield* eventually(
        Effect.map(mine.send("GET", "/queries"), (answer) => queriesOf(answer).map(({ state }) => state)),
        (states) => states.includes("Canceled") && states.includes("Running")
      )
      assert.strictEqual((yield* mine.send("POST", "/logout")).status, 204)
      yield* isGone("on_mine")
    })
  )

  it.effect("somebody else's session is as unknown as one that never was", () =>
    Effect.gen(function* () {
      const mine = yield* Effect.flatten(newUser("mallory"))
      const theirs = yield* (yield* Service.Shared).login()
      const { id } = yield* session(theirs)
      const unknown = "00000000-0000-4000-8000-000000000000"
      const answers = yield* Effect.forEach([id, unknown, "garbage", "%00", "..%2f", "x".repeat(5000)], (each) =>
        mine.send("DELETE", `/sessions/${each}`)
      )
      for (const answer of answers) {
        assert.strictEqual(answer.status, 404)
        problemOf(answer)
      }
      assert.strictEqual(answers[0]?.text, answers[2]?.text)
      assert.strictEqual((yield* session(theirs)).id, id)
    })
  )

  it.effect("DELETE /sessions ends all others, with all they held", () =>
    Effect.gen(function* () {
      const login = yield* newUser("dennis")
      const others = [yield* login, yield* login]
      const mine = yield* login
      for (const [index, other] of others.entries()) yield* longQuery(other, `of_other_${index}`)
      assert.strictEqual((yield* mine.send("DELETE", "/sessions")).status, 204)
      yield* isGone("of_other_")
      for (const other of others) assert.strictEqual(yield* refusal(other), "SessionRevoked")
      assert.lengthOf(yield* devices(mine), 1)
      assert.strictEqual((yield* mine.send("DELETE", "/sessions")).status, 204)
    })
  )

  it.effect("ending one's own session is a logout", () =>
    Effect.gen(function* () {
      const browser = yield* Effect.flatten(newUser("donald"))
      const thief = copyOf(browser)
      yield* longQuery(browser, "of_donald")
      const { id } = yield* session(browser)
      assert.strictEqual((yield* browser.send("DELETE", `/sessions/${id}`)).status, 204)
      assert.strictEqual(browser.cookies.size, 0)
      yield* isGone("of_donald")
      assert.strictEqual(yield* refusal(thief), "SessionRevoked")
    })
  )

  it.effect("S6 a login over an existing session makes a new token at once, and what it held goes on", () =>
    Effect.gen(function* () {
      yield* newUser("margaret")
      const { login } = yield* Service.Shared
      const browser = yield* login("margaret")
      const before = copyOf(browser)
      const { id } = yield* session(browser)
      yield* patch(browser, { kept: true })
      const query = yield* longQuery(browser, "of_margaret")
      const json = { username: "margaret", password: Service.demoPassword }
      assert.strictEqual((yield* browser.send("POST", "/login", { json })).status, 200)
      assert.notStrictEqual(tokenOf(browser), tokenOf(before))
      assert.strictEqual(yield* refusal(before), "SessionMissing")
      assert.strictEqual((yield* session(browser)).id, id)
      assert.strictEqual((yield* data(browser)).text, '{"kept":true}')
      assert.lengthOf(yield* devices(browser), 1)
      assert.strictEqual((yield* browser.send("DELETE", `/queries/${query}`)).status, 200)
    })
  )

  it.effect("a login as somebody else ends the session that was there, with its work, and hands nothing on", () =>
    Effect.gen(function* () {
      const asTony = yield* newUser("tony")
      yield* newUser("frances")
      const browser = yield* asTony
      const before = copyOf(browser)
      const { id } = yield* session(browser)
      yield* patch(browser, { secret: "of tony" })
      yield* longQuery(browser, "of_tony")
      const json = { username: "frances", password: Service.demoPassword }
      assert.strictEqual((yield* browser.send("POST", "/login", { json })).status, 200)
      yield* isGone("of_tony")
      // Her cookie took the place of his, so his is not to be removed by whatever was sent with it.
      assert.strictEqual(yield* refusal(before), "SessionMissing")
      assert.strictEqual(before.cookies.size, 1)
      const now = yield* session(browser)
      assert.strictEqual(now.principal, "frances")
      assert.notStrictEqual(now.id, id)
      assert.strictEqual((yield* data(browser)).text, "{}")
      assert.lengthOf(yield* devices(browser), 1)
    })
  )

  it.effect("S6 a token that nobody issued is never taken over: the login has one of its own", () =>
    Effect.gen(function* () {
      const { browser: newBrowser } = yield* Service.Shared
      const browser = newBrowser()
      const planted = "A".repeat(43)
      browser.cookies.set(cookieName(browser.url), planted)
      const json = { username: "demo", password: Service.demoPassword }
      assert.strictEqual((yield* browser.send("POST", "/login", { json })).status, 200)
      assert.notStrictEqual(tokenOf(browser), planted)
      const attacker = newBrowser()
      attacker.cookies.set(cookieName(browser.url), planted)
      assert.strictEqual(yield* refusal(attacker), "SessionMissing")
    })
  )

  it.effect(
    "S6 a token is replaced when it is old; parallel requests get the same; the old one lives half a minute",
    () =>
      Effect.gen(function* () {
        const browser = yield* Effect.flatten(newUser("niklaus"))
        const { id } = yield* session(browser)
        const cookie = tokenOf(browser)
        const query = yield* longQuery(browser, "of_niklaus")
        // An hour in which the session was used: each step is less than the idle timeout.
        for (let minutes = 0; minutes < 60; minutes += 20) {
          yield* session(browser)
          yield* travel("20 minutes")
        }
        const copies = Array.from({ length: 10 }, () => copyOf(browser))
        yield* Effect.forEach(copies, session, { concurrency: "unbounded" })
        const [next = ""] = copies.map(tokenOf)
        assert.notStrictEqual(next, cookie)
        assert.deepStrictEqual(
          copies.map(tokenOf),
          copies.map(() => next)
        )
        const [renewed = browser] = copies
        assert.strictEqual((yield* session(renewed)).id, id)
        // Within the time of grace the old one works, then no more; the session goes on.
        const old = copyOf(browser)
        assert.strictEqual((yield* old.send("GET", "/session")).status, 200)
        yield* travel("31 seconds")
        assert.strictEqual(yield* refusal(copyOf(browser)), "SessionMissing")
        assert.strictEqual((yield* session(renewed)).id, id)
        const { queries } = yield* Service.Shared
        yield* Service.runs(queries.name, "of_niklaus")
        assert.strictEqual((yield* renewed.send("DELETE", `/queries/${query}`)).status, 200)
      })
  )

  it.effect(
    "S4 S9 a session that was idle for too long is refused, and what it held is released within 15 seconds",
    () =>
      Effect.gen(function* () {
        const browser = yield* Effect.flatten(newUser("alan"))
        const { queries } = yield* Service.Shared
        const id = yield* longQuery(browser, "of_alan")
        yield* travel("29 minutes")
        yield* session(browser)
        yield* travel("32 minutes")
        assert.strictEqual(yield* refusal(browser), "SessionExpired")
        yield* eventually(
          Service.statements(queries.name),
          (all) => !all.some((sql) => sql.includes("of_alan")),
          "15 seconds"
        )
        const again = yield* (yield* Service.Shared).login("alan")
        assert.strictEqual((yield* settled(again, id)).state, "Canceled")
      })
  )

  it.effect("S4 a session is over at its absolute end, however busy it was", () =>
    Effect.gen(function* () {
      const browser = yield* Effect.flatten(newUser("john"))
      const { createdAt, expiresAt } = yield* session(browser)
      assert.strictEqual(DateTime.toEpochMillis(expiresAt) - DateTime.toEpochMillis(createdAt), 12 * 3_600_000)
      for (let hours = 0; hours < 11.9; hours += 0.45) {
        yield* session(browser)
        yield* travel("27 minutes")
      }
      assert.strictEqual(yield* refusal(browser), "SessionExpired")
    })
  )
}

const options = { excludeTestServices: true, timeout: "60 seconds" } as const
layer(Service.layerShared(), options)("the session calls", calls)
layer(RedisService.layerShared(), options)("the session calls, with sessions in Redis", calls)
