import { assert, layer, type Vitest } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { cookieName, page, problemOf, queriesOf, queryOf, rowsOf, run, settled, submit } from "../support/browser.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import * as RedisService from "../support/redisService.ts"
import * as Service from "../support/service.ts"

const Session = Schema.Struct({
  id: Schema.String,
  principal: Schema.String,
  createdAt: Schema.DateTimeUtcFromString,
  idleExpiresAt: Schema.DateTimeUtcFromString,
  expiresAt: Schema.DateTimeUtcFromString
})
const sessionOf = ({ json }: { readonly json: unknown }) => Schema.decodeUnknownSync(Session)(json)

type It = Vitest.MethodsNonLive<Service.Shared | Service.Demo>

const sessions = (it: It) => {
  it.effect("the walk: log in, run SQL, read the rows page by page, log out", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      yield* Service.addUser(service, "walker")
      const browser = service.browser()

      const credentials = { username: "walker", password: Service.demoPassword }
      const login = yield* browser.send("POST", "/login", { json: credentials })
      assert.strictEqual(login.status, 200)
      assert.strictEqual(login.headers.get("cache-control"), "no-store")
      const [cookie = "", ...more] = login.headers.getSetCookie()
      assert.deepStrictEqual(more, [])
      const [pair = "", ...attributes] = cookie.split("; ")
      const name = cookieName(browser.url)
      assert.match(pair, new RegExp(`^${name}=[\\w-]{43}$`))
      assert.includeMembers(attributes, ["HttpOnly", "SameSite=Lax", "Path=/"])
      assert.notInclude(attributes, "Secure")
      assert.isFalse(attributes.some((attribute) => attribute.startsWith("Domain")))

      const session = yield* browser.send("GET", "/session")
      assert.strictEqual(session.status, 200)
      const { createdAt, expiresAt, id: sessionId, idleExpiresAt, principal } = sessionOf(session)
      assert.strictEqual(principal, "walker")
      assert.strictEqual(sessionId, sessionOf(login).id)
      assert.notInclude(session.text, pair.slice(name.length + 1))
      assert.isBelow(createdAt.epochMilliseconds, idleExpiresAt.epochMilliseconds)
      assert.isAtMost(idleExpiresAt.epochMilliseconds, expiresAt.epochMilliseconds)

      const submitted = yield* browser.send("POST", "/queries", {
        json: { sql: "select n, n::int8 as big from generate_series(1, $1::int) as n", params: [5] }
      })
      assert.strictEqual(submitted.status, 202)
      const { id } = Schema.decodeUnknownSync(Schema.Struct({ id: Schema.String }))(submitted.json)
      assert.strictEqual(submitted.headers.get("location"), `/queries/${id}`)
      const query = yield* settled(browser, id)
      assert.deepInclude(query, { state: "Succeeded", rowCount: 5, error: null })

      const first = yield* page(browser, id, "?limit=2")
      assert.deepStrictEqual(first.columns, [
        { name: "n", type: "int4" },
        { name: "big", type: "int8" }
      ])
      assert.deepStrictEqual(first.rows, [
        [1, "1"],
        [2, "2"]
      ])
      const second = yield* page(browser, id, `?limit=2&cursor=${first.next}`)
      const third = yield* page(browser, id, `?limit=2&cursor=${second.next}`)
      assert.deepStrictEqual(
        [...second.rows, ...third.rows],
        [
          [3, "3"],
          [4, "4"],
          [5, "5"]
        ]
      )
      assert.isNull(third.next)
      assert.deepStrictEqual(yield* page(browser, id, `?limit=2&cursor=${first.next}`), second)

      assert.deepStrictEqual(queriesOf(yield* browser.send("GET", "/queries")), [query])
      const deleted = yield* browser.send("DELETE", `/queries/${id}`)
      assert.strictEqual(deleted.status, 200)
      assert.deepStrictEqual(queryOf(deleted), query)

      const logout = yield* browser.send("POST", "/logout")
      assert.strictEqual(logout.status, 204)
      assert.strictEqual(logout.text, "")
      const [removal = ""] = logout.headers.getSetCookie()
      assert.isTrue(removal.startsWith(`${name}=; `))
      assert.includeMembers(removal.split("; "), ["Max-Age=0", "Path=/", "HttpOnly", "SameSite=Lax"])
      assert.strictEqual(browser.cookies.size, 0)
      assert.strictEqual(problemOf(yield* browser.send("GET", "/session")).code, "SessionMissing")
      const headers = { cookie: pair }
      for (const path of ["/session", "/queries", `/queries/${id}`]) {
        const refused = yield* browser.send("GET", path, { headers })
        assert.deepStrictEqual([refused.status, problemOf(refused).code], [401, "SessionRevoked"], path)
      }
    })
  )

  it.effect("S9 logging out interrupts what the session runs, and answers after it was released", () =>
    Effect.gen(function* () {
      const { login, queries } = yield* Service.Shared
      const browser = yield* login()
      const ids = [yield* submit(browser, "select pg_sleep(60)"), yield* submit(browser, "select pg_sleep(61)")]
      yield* Service.runs(queries.name, "pg_sleep", 2)

      const [took, { status }] = yield* Effect.timed(browser.send("POST", "/logout"))
      assert.deepStrictEqual(yield* Service.statements(queries.name), [])
      assert.strictEqual(status, 204)
      assert.isBelow(Duration.toMillis(took), inTimeOf(1500))

      const again = yield* login()
      for (const id of ids) {
        const { error, state } = queryOf(yield* again.send("GET", `/queries/${id}`))
        assert.deepStrictEqual([state, error?.code], ["Canceled", "SessionEnded"])
      }
    })
  )

  it.effect("another session of the same user goes on when one logs out", () =>
    Effect.gen(function* () {
      const { login, queries } = yield* Service.Shared
      const [phone, laptop] = [yield* login(), yield* login()]
      const id = yield* submit(laptop, "select pg_sleep(62)")
      yield* Service.runs(queries.name, "pg_sleep(62)")
      assert.strictEqual((yield* phone.send("POST", "/logout")).status, 204)
      assert.strictEqual(queryOf(yield* laptop.send("GET", `/queries/${id}`)).state, "Running")
      assert.strictEqual(queryOf(yield* laptop.send("DELETE", `/queries/${id}`)).state, "Canceled")
    })
  )

  it.effect("logging out without a session, or twice, is 204 and removes the cookie", () =>
    Effect.gen(function* () {
      const { browser, login } = yield* Service.Shared
      const stranger = yield* browser().send("POST", "/logout")
      assert.strictEqual(stranger.status, 204)
      const user = yield* login()
      const name = cookieName(user.url)
      assert.match(stranger.headers.getSetCookie().join(), new RegExp(`^${name}=; .*Max-Age=0`))
      const headers = { cookie: `${name}=${user.cookies.get(name)}` }
      for (const cookie of [headers, headers, { cookie: `${name}=garbage` }]) {
        assert.strictEqual((yield* user.send("POST", "/logout", { headers: cookie })).status, 204)
      }
    })
  )
}

const queries = (it: It) => {
  it.effect("Q2 cancelling a running query answers Canceled well under a second later, with nothing left running", () =>
    Effect.gen(function* () {
      const { login, queries } = yield* Service.Shared
      const browser = yield* login()
      const id = yield* submit(browser, "select pg_sleep(60)")
      yield* Service.runs(queries.name, "pg_sleep")
      const [took, answer] = yield* Effect.timed(browser.send("DELETE", `/queries/${id}`))
      assert.deepStrictEqual(yield* Service.statements(queries.name), [])
      assert.strictEqual(answer.status, 200)
      const canceled = queryOf(answer)
      assert.deepStrictEqual([canceled.state, canceled.error?.code], ["Canceled", "QueryCanceled"])
      assert.isBelow(Duration.toMillis(took), inTimeOf(900))
      assert.deepStrictEqual(queryOf(yield* browser.send("DELETE", `/queries/${id}`)), canceled)
      const rows = yield* browser.send("GET", `/queries/${id}/rows`)
      assert.deepStrictEqual([rows.status, problemOf(rows).code], [409, "QueryNotSucceeded"])
    })
  )

  it.effect("Q2 ten clients that cancel one query at once get the same answer", () =>
    Effect.gen(function* () {
      const { login, queries } = yield* Service.Shared
      const browser = yield* login()
      const id = yield* submit(browser, "select pg_sleep(60)")
      yield* Service.runs(queries.name, "pg_sleep")
      const answers = yield* Effect.all(
        Array.from({ length: 10 }, () => Effect.map(browser.send("DELETE", `/queries/${id}`), queryOf)),
        { concurrency: "unbounded" }
      )
      for (const answer of answers) assert.deepStrictEqual(answer, answers[0])
      assert.strictEqual(answers[0]?.state, "Canceled")
      assert.deepStrictEqual(yield* Service.statements(queries.name), [])
    })
  )

  it.effect("a query past its timeoutMs is Failed with QueryDeadlineExceeded, and gone from the server", () =>
    Effect.gen(function* () {
      const { login, queries } = yield* Service.Shared
      const browser = yield* login()
      const { error, state } = yield* run(browser, "select pg_sleep(60)", { timeoutMs: 200 })
      assert.deepStrictEqual([state, error?.code], ["Failed", "QueryDeadlineExceeded"])
      assert.deepStrictEqual(yield* Service.statements(queries.name), [])
    })
  )

  it.effect("more queries than may run at once wait for their turn, and cancelling a waiting one is at once", () =>
    Effect.gen(function* () {
      const { login, queries } = yield* Service.Shared
      const browser = yield* login()
      const ids: Array<string> = []
      for (let index = 0; index < 7; index++) ids.push(yield* submit(browser, "select pg_sleep(60)"))
      yield* Service.runs(queries.name, "pg_sleep", 5)
      const states = Effect.map(browser.send("GET", "/queries"), (answer) =>
        queriesOf(answer)
          .filter(({ id }) => ids.includes(id))
          .map(({ state }) => state)
      )
      const running = (all: ReadonlyArray<string>) => all.filter((state) => state === "Running").length
      // The newest first.
      const all = yield* eventually(states, (all) => running(all) === 5)
      assert.deepStrictEqual(all.slice(0, 2), ["Queued", "Queued"])
      const [took, answer] = yield* Effect.timed(browser.send("DELETE", `/queries/${ids.at(-1)}`))
      assert.strictEqual(queryOf(answer).state, "Canceled")
      assert.isBelow(Duration.toMillis(took), inTimeOf(500))
      yield* browser.send("DELETE", `/queries/${ids[0]}`)
      yield* eventually(
        Effect.map(browser.send("GET", `/queries/${ids[5]}`), queryOf),
        ({ state }) => state === "Running"
      )
      assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
      assert.deepStrictEqual(yield* Service.statements(queries.name), [])
      assert.deepStrictEqual(yield* rowsOf(yield* login(), "select 1"), [[1]])
    })
  )
}

const options = { excludeTestServices: true, timeout: "60 seconds" } as const
layer(Service.layerShared(), options)("holdfast serve", (it) => {
  sessions(it)
  queries(it)
})
layer(RedisService.layerShared(), options)("holdfast serve, with sessions in Redis", sessions)
