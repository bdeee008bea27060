import { randomBytes } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  cookieName,
  type Answer,
  type Browser,
  problemOf,
  queriesOf,
  type RequestOptions,
  rowsOf,
  run,
  settled,
  submittedId
} from "../support/browser.ts"
import * as RawHttp from "../support/rawHttp.ts"
import * as Service from "../support/service.ts"

/** A 4xx problem. */
const assertRefused = (answer: Answer, status: number | ReadonlyArray<number>, what: string) => {
  const allowed = typeof status === "number" ? [status] : status
  assert.isTrue(allowed.includes(answer.status), `${what}: ${answer.status} ${answer.text}`)
  problemOf(answer)
}

type Case = readonly [what: string, status: number | ReadonlyArray<number>, options: RequestOptions]

const bodies: ReadonlyArray<Case> = [
  ["malformed JSON", 400, json('{"sql":')],
  ["nothing", [400, 415], {}],
  ["an empty body", 400, json("")],
  ["null", 400, json("null")],
  ["a list", 400, json("[]")],
  ["no sql", 400, json("{}")],
  ["empty sql", 400, json('{"sql":""}')],
  ["sql that is a number", 400, json('{"sql":1}')],
  ["sql that is a list", 400, json('{"sql":["select 1"]}')],
  ["params that are an object", 400, json('{"sql":"select 1","params":{"0":1}}')],
  ["params that are a string", 400, json('{"sql":"select 1","params":"1"}')],
  ["params that are null", 400, json('{"sql":"select 1","params":null}')],
  ["a negative timeout", 400, json('{"sql":"select 1","timeoutMs":-1}')],
  ["a timeout of nothing", 400, json('{"sql":"select 1","timeoutMs":0}')],
  ["a broken timeout", 400, json('{"sql":"select 1","timeoutMs":1.5}')],
  ["a timeout that is text", 400, json('{"sql":"select 1","timeoutMs":"1"}')],
  ["a timeout beyond a day", 400, json('{"sql":"select 1","timeoutMs":86400001}')],
  ["a timeout beyond all numbers", 400, json('{"sql":"select 1","timeoutMs":1e999}')],
  ["a misspelt timeout", 400, json('{"sql":"select 1","timeoutMS":1000}')],
  ["misspelt params", 400, json('{"sql":"select 1","param":[1]}')],
  ["a member named __proto__", 400, json('{"sql":"select 1","__proto__":{"timeoutMs":1}}')],
  ["two statements of one name", 400, json('{"sql":"select 1","sql":"select 2"}')],
  ["params with two members of one name", 400, json('{"sql":"select $1::jsonb","params":[{"a":1,"a":2}]}')],
  ["a number in params that JavaScript changes", 400, json('{"sql":"select $1","params":[[9007199254740993]]}')],
  ["a number in an object that JavaScript changes", 400, json('{"sql":"select $1","params":[{"a":1e400}]}')],
  ["params of 5,000 levels", 400, json(`{"sql":"select $1::jsonb","params":[${"[".repeat(5000)}${"]".repeat(5000)}]}`)],
  ["everything behind __proto__", 400, json('{"__proto__":{"sql":"select 1"}}')],
  [
    "bytes that are not UTF-8",
    400,
    json(Buffer.from([...Buffer.from('{"sql":"select \''), 0xff, 0xfe, ...Buffer.from("'\"}")]))
  ],
  ["a body of more than 1 MiB", 413, json(JSON.stringify({ sql: "select 1", padding: "x".repeat(1024 * 1024) }))],
  ["text", 415, { body: '{"sql":"select 1"}', headers: { "content-type": "text/plain" } }],
  ["a form", 415, { body: "sql=select+1", headers: { "content-type": "application/x-www-form-urlencoded" } }]
]

/** For the session's data, which is any JSON object. */
const dataBodies: ReadonlyArray<Case> = [
  ["malformed JSON", 400, json('{"a":')],
  ["nothing", [400, 415], {}],
  ["an empty body", 400, json("")],
  ["null", 400, json("null")],
  ["a list", 400, json("[]")],
  ["a string", 400, json('"a"')],
  ["a number", 400, json("1")],
  ["a number beyond all numbers", 400, json('{"a":1e999}')],
  ["bytes that are not UTF-8", 400, json(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]))],
  ["101 levels", 400, json(`${'{"a":'.repeat(101)}1${"}".repeat(101)}`)],
  ["a hundred thousand levels", 400, json(`${'{"a":'.repeat(1e5)}1${"}".repeat(1e5)}`)],
  ["a list of a hundred thousand levels", 400, json(`{"a":${"[".repeat(1e5)}${"]".repeat(1e5)}}`)],
  ["one byte more than 64 KiB", 413, json(`{"a":"${"x".repeat(65_536 - 7)}"}`)],
  ["64 KiB of letters of two bytes", 413, json(`{"a":"${"ü".repeat(32_768)}"}`)],
  ["a body of more than 1 MiB", 413, json(`{"a":"${"x".repeat(1024 * 1024)}"}`)],
  ["text", 415, { body: "{}", headers: { "content-type": "text/plain" } }],
  ["a JSON patch", 415, { body: "{}", headers: { "content-type": "application/json-patch+json" } }]
]

/** The calls that need a session. */
const needSession = [
  ["GET", "/session"],
  ["GET", "/session/data"],
  ["PATCH", "/session/data"],
  ["PUT", "/session/data"],
  ["GET", "/sessions"],
  ["DELETE", "/sessions"],
  ["DELETE", "/sessions/00000000-0000-4000-8000-000000000000"],
  ["POST", "/queries"],
  ["GET", "/queries"],
  ["GET", "/queries/q"],
  ["GET", "/queries/q/rows"],
  ["GET", "/queries/q/events"],
  ["DELETE", "/queries/q"],
  ["GET", "/holdings"]
] as const

function json(body: string | Uint8Array<ArrayBuffer>): RequestOptions {
  return { body, headers: { "content-type": "application/json" } }
}

const garbage = [
  "x",
  "q_",
  "1",
  "..",
  "%00",
  "%E0%A4%A",
  "%2e%2e%2f",
  "q_00000000-0000-4000-8000-000000000000",
  "ü",
  "q".repeat(5000)
]
const cursors = ["x", "", "%00", "%FF", "cm93Oi0x", "cm93OjE=garbage", "cm93OjFlOQ", "x".repeat(5000)]
const limits = ["0", "abc", "10001", "-1", "1.5", "", "1e3x", "NaN", "Infinity", "1&limit=2"]

/** Whether there is nothing in it for PostgreSQL to run. */
const isEmpty = (sql: string) => sql.replace(/--.*|[;\s]/g, "") === ""

/** Everything that the requests of a test may leave behind: nothing. */
const nothingStored = (browser: Browser, test: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const before = queriesOf(yield* browser.send("GET", "/queries"))
    yield* test
    assert.deepStrictEqual(queriesOf(yield* browser.send("GET", "/queries")), before)
    assert.deepStrictEqual(yield* rowsOf(browser, "select 6 * 7"), [[42]])
  })

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("bad input", (it) => {
  it.effect.each(bodies)("POST /queries with %s is refused and stores nothing", ([what, status, options]) =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      yield* nothingStored(
        browser,
        Effect.gen(function* () {
          assertRefused(yield* browser.send("POST", "/queries", options), status, what)
        })
      )
    })
  )

  it.effect("a chunked body is counted, too", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const chunk = `100000\r\n${"x".repeat(0x100000)}\r\n`
      const answer = yield* RawHttp.send(
        browser.url,
        `POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${chunk}0\r\n\r\n`
      )
      assertRefused(answer, 413, "two chunks of 1 MiB")
    })
  )

  it.effect("POST /login with what cannot be credentials is refused and sets no cookie", () =>
    Effect.gen(function* () {
      const browser = (yield* Service.Shared).browser()
      const cases: ReadonlyArray<Case> = [
        ["malformed JSON", 400, json("{")],
        ["no password", 400, { json: { username: "demo" } }],
        ["an empty user name", 400, { json: { username: "", password: "x" } }],
        ["an empty password", 400, { json: { username: "demo", password: "" } }],
        ["a password that is a list", 400, { json: { username: "demo", password: [Service.demoPassword] } }],
        ["a password of more than 1,024 bytes", 400, { json: { username: "demo", password: "x".repeat(1025) } }],
        ["a password of fewer letters but more bytes", 400, { json: { username: "demo", password: "ü".repeat(513) } }],
        ["a user name of a kilobyte", 400, { json: { username: "x".repeat(1024), password: "x" } }],
        ["text", 415, { body: "demo", headers: { "content-type": "text/plain" } }]
      ]
      for (const [what, status, options] of cases) {
        const answer = yield* browser.send("POST", "/login", options)
        assertRefused(answer, status, what)
        assert.notInclude(answer.text, Service.demoPassword)
        assert.deepStrictEqual(answer.headers.getSetCookie(), [])
      }
    })
  )

  it.effect("a user name that no user can have is refused like any other, and is nobody else's", () =>
    Effect.gen(function* () {
      const browser = (yield* Service.Shared).browser()
      for (const [name, status] of [
        ["\\u0000", 401],
        ["de\\u0000mo", 401],
        ["\\ud800", 401],
        ["a\\udc00b", 401],
        ["x".repeat(128), 401],
        ["x".repeat(129), 400],
        ["\\ud83d\\ude00".repeat(65), 400]
      ] as const) {
        const answer = yield* browser.send("POST", "/login", json(`{"username":"${name}","password":"x"}`))
        assertRefused(answer, status, name)
        assert.deepStrictEqual(answer.headers.getSetCookie(), [])
      }
    })
  )

  it.effect("idempotency keys and event ids that cannot be are 400, sent as they are", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id } = yield* run(browser, "select 1")
      const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
      const send = (head: string, header: string, body: string) =>
        RawHttp.send(
          browser.url,
          `${head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: ${cookie}\r\n${header}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`
        )
      yield* nothingStored(
        browser,
        Effect.gen(function* () {
          for (const key of [
            "",
            " ",
            "a b",
            "a\tb",
            "\xff",
            "a\x01",
            "x".repeat(256),
            "x".repeat(8000),
            "a\r\nIdempotency-Key: b"
          ]) {
            const answer = yield* send("POST /queries", `Idempotency-Key: ${key}`, '{"sql":"select 1"}')
            assertRefused(answer, 400, `key ${JSON.stringify(key.slice(0, 60))}`)
          }
        })
      )
      for (const after of ["", " ", "-1", "+1", "0x1", "1e1", "1.0", "\xff", "4\x00", "5", "9".repeat(400)]) {
        const answer = yield* send(`GET /queries/${id}/events`, `Last-Event-ID: ${after}`, "")
        assertRefused(answer, 400, `event ${JSON.stringify(after.slice(0, 60))}`)
      }
    })
  )

  it.effect("ids that we never issued are 404", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      for (const id of garbage) {
        for (const [method, path] of [
          ["GET", `/queries/${id}`],
          ["GET", `/queries/${id}/rows`],
          ["GET", `/queries/${id}/events`],
          ["DELETE", `/queries/${id}`]
        ] as const) {
          assertRefused(yield* browser.send(method, path), [400, 404], `${method} ${path}`)
        }
      }
    })
  )

  it.effect("cursors that we never issued and limits out of bounds are 400", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id } = yield* run(browser, "select generate_series(1, 5)")
      for (const search of [...cursors.map((it) => `cursor=${it}`), ...limits.map((it) => `limit=${it}`)]) {
        for (const path of [`/queries/${id}/rows`, "/queries"]) {
          assertRefused(yield* browser.send("GET", `${path}?${search}`), 400, `${path} ${search}`)
        }
      }
      for (const search of [...limits.map((it) => `limit=${it}`), "limit=1&limit=2"]) {
        assertRefused(yield* browser.send("GET", `/holdings?${search}`), 400, `/holdings ${search}`)
      }
      for (const state of ["", "x", "running", "__proto__", "%00", "%FF", "Running&state=Failed"]) {
        assertRefused(yield* browser.send("GET", `/queries?state=${state}`), 400, `state ${state}`)
      }
    })
  )

  it.effect("paths that are no calls are 404, and 405 with Allow when only the method is wrong", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      for (const path of [
        "/",
        "/nothing",
        "//queries",
        "/queries/",
        "/QUERIES/x/y",
        "/%00",
        "/%E0%A4%A",
        "/../etc/passwd"
      ]) {
        const answer = yield* RawHttp.get(browser.url, path, "Accept: */*")
        assertRefused(answer, [400, 401, 404], path)
      }
      for (const [method, path, allow] of [
        ["PUT", "/queries", ["GET", "HEAD", "POST"]],
        ["DELETE", "/queries?x=/logout", ["GET", "HEAD", "POST"]],
        ["POST", "/queries/q", ["GET", "HEAD", "DELETE"]],
        ["POST", "/session", ["GET", "HEAD"]],
        ["GET", "/login", ["POST"]],
        ["GET", "/logout", ["POST"]],
        ["OPTIONS", "/queries", ["GET", "HEAD", "POST"]],
        ["PROPFIND", "/queries", ["GET", "HEAD", "POST"]]
      ] as const) {
        const what = `${method} ${path}`
        const answer = yield* browser.send(method, path)
        assert.strictEqual(answer.status, 405, what)
        assert.sameMembers((answer.headers.get("allow") ?? "").split(", "), Array.from(allow), what)
        assert.strictEqual(problemOf(answer).code, "MethodNotAllowed", what)
      }
    })
  )

  it.effect("cookies that cannot be ours are as good as none", () =>
    Effect.gen(function* () {
      const { url } = yield* Service.Shared
      const name = cookieName(url)
      const token = randomBytes(32).toString("base64url")
      const values = [
        "",
        "x",
        token,
        `${token}x`,
        token.slice(1),
        `"${token}"`,
        '"',
        '"\\"',
        "%00",
        "%",
        "%E0%A4%A",
        "\xff\xfe\x80",
        "a;b;;;=;=x;",
        `=; ; ${name}`,
        "__proto__",
        `x; __proto__=x; constructor=y; ${name}=${token}`,
        "; ".repeat(2000),
        "x".repeat(8000)
      ]
      for (const value of values) {
        const answer = yield* RawHttp.get(url, "/session", `Cookie: ${name}=${value}`)
        assertRefused(answer, 401, `cookie ${JSON.stringify(value.slice(0, 60))}`)
        assert.strictEqual(problemOf(answer).code, "SessionMissing")
      }
    })
  )

  it.effect("no call is answered for a token that is not one of ours, and such a cookie is removed", () =>
    Effect.gen(function* () {
      const { browser: newBrowser } = yield* Service.Shared
      const real = Array.from((yield* Service.Demo).cookies.values()).join()
      const flipped = `${real.startsWith("A") ? "B" : "A"}${real.slice(1)}`
      for (const token of [
        flipped,
        real.toUpperCase() === real ? real.toLowerCase() : real.toUpperCase(),
        real.slice(1)
      ]) {
        for (const [method, path] of needSession) {
          const browser = newBrowser()
          browser.cookies.set(cookieName(browser.url), token)
          const what = `${method} ${path} with ${token.length} letters`
          const options =
            method === "PATCH" || method === "PUT" || method === "POST" ? { json: { sql: "select 1" } } : {}
          const answer = yield* browser.send(method, path, options)
          assert.deepStrictEqual([answer.status, problemOf(answer).code], [401, "SessionMissing"], what)
          assert.strictEqual(browser.cookies.size, 0, what)
          assert.notInclude(answer.text, token, what)
        }
      }
      for (const [method, path] of needSession) {
        const answer = yield* newBrowser().send(method, path)
        assert.strictEqual(answer.status, 401, `${method} ${path} without a cookie`)
      }
    })
  )

  it.effect.each(dataBodies)(
    "PATCH and PUT /session/data with %s are refused and change nothing",
    ([what, status, options]) =>
      Effect.gen(function* () {
        const browser = yield* Service.Demo
        const before = yield* browser.send("GET", "/session/data")
        const headers = { ...options.headers, "if-match": before.headers.get("etag") ?? "" }
        assertRefused(yield* browser.send("PATCH", "/session/data", options), status, `PATCH ${what}`)
        assertRefused(yield* browser.send("PUT", "/session/data", { ...options, headers }), status, `PUT ${what}`)
        const after = yield* browser.send("GET", "/session/data")
        assert.deepStrictEqual([after.text, after.headers.get("etag")], [before.text, before.headers.get("etag")])
      })
  )

  it.effect("what just fits is stored to the byte, whatever is in it", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const put = (body: string) =>
        browser.send("PUT", "/session/data", { body, headers: { "content-type": "application/json", "if-match": "*" } })
      for (const text of [
        `{"a":"${"x".repeat(65_536 - 8)}"}`,
        `${'{"a":'.repeat(100)}1${"}".repeat(100)}`,
        '{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}},"toString":1}',
        '{"":"","a.b":"$1","\\u0000":"NUL: \\u0000","\\ud83d\\ude00":"\\"\\\\"}',
        "{}"
      ]) {
        const answer = yield* put(text)
        assert.strictEqual(answer.status, 200, answer.text)
        assert.deepStrictEqual(answer.json, JSON.parse(text))
        assert.strictEqual((yield* browser.send("GET", "/session/data")).text, answer.text)
      }
      // A text that UTF-8 cannot write is stored as it is or refused.
      const alone = yield* put('{"a":"\\ud800"}')
      assert.include([200, 400], alone.status, alone.text)
      assert.strictEqual((yield* browser.send("GET", "/session/data")).status, 200)
      assert.strictEqual((yield* put("{}")).status, 200)
    })
  )

  it.effect("data that grows by patches stops at 64 KiB", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const statuses: Array<number> = []
      for (let index = 0; index < 9; index++) {
        statuses.push((yield* browser.send("PATCH", "/session/data", { json: { [index]: "x".repeat(8000) } })).status)
      }
      assert.deepStrictEqual(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 413])
      assert.strictEqual((yield* browser.send("PATCH", "/session/data", { json: { 0: null, 8: 1 } })).status, 200)
    })
  )

  it.effect("a request that HTTP itself forbids is a 4xx problem", () =>
    Effect.gen(function* () {
      const { url } = yield* Service.Shared
      for (const [header, status] of [
        ["Cookie: holdfast-dev=a\x01b", 400],
        ["Cookie: holdfast-dev=a\x00b", 400],
        [`Cookie: holdfast-dev=${"x".repeat(100_000)}`, 431],
        ["no colon", 400],
        ["Content-Length: x", 400]
      ] as const) {
        assertRefused(yield* RawHttp.get(url, "/session", header), status, JSON.stringify(header.slice(0, 60)))
      }
    })
  )

  it.effect("SQL and parameters that PostgreSQL cannot take end in a failed query, and the next one works", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const cases: ReadonlyArray<readonly [sql: string, params?: ReadonlyArray<unknown>]> = [
        ["select 'a\u0000b'"],
        ["\u0000"],
        ["select 1\u0000; select 2"],
        ["select $1::text", ["a\u0000b"]],
        ["select $1::text[]", [["a\u0000b"]]],
        ["select $1::jsonb", [{ key: "a\u0000b" }]],
        ["select $1::int", ["x"]],
        ["select $1::int", []],
        ["select 1", [1]],
        ["select $1::int", [{ a: 1 }]],
        ["select $65536", []],
        ["select 1", Array.from({ length: 70_000 }, () => 1)],
        [" "],
        [";"],
        ["-- nothing"]
      ]
      for (const [sql, params = []] of cases) {
        const what = `${JSON.stringify(sql)} with ${JSON.stringify(params).slice(0, 40)}`
        const answer = yield* browser.send("POST", "/queries", { json: { sql, params } })
        if (answer.status === 202) {
          const { error, state } = yield* settled(browser, submittedId(answer))
          assert.strictEqual(state, isEmpty(sql) ? "Succeeded" : "Failed", what)
          if (error !== null) assert.strictEqual(error.code, "StatementFailed", `${what}: ${error.message}`)
        } else assertRefused(answer, 400, what)
        assert.deepStrictEqual(yield* rowsOf(browser, "select $1::text", { params: ["next"] }), [["next"]], what)
      }
    })
  )

  it.effect("parameters nested a hundred thousand deep are refused, or fail the query", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      for (const [open, close] of [
        ["[", "]"],
        ['{"a":', "}"]
      ] as const) {
        const deep = `${open.repeat(1e5)}1${close.repeat(1e5)}`
        const answer = yield* browser.send("POST", "/queries", json(`{"sql":"select $1::text","params":[${deep}]}`))
        if (answer.status === 202) {
          assert.strictEqual((yield* settled(browser, submittedId(answer))).state, "Failed")
        } else assertRefused(answer, 400, open)
        assert.deepStrictEqual(yield* rowsOf(browser, "select 1"), [[1]])
      }
    })
  )

  it.effect("keys such as __proto__ in parameters are plain keys, and beside them are as wrong as any other", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const body = '{"sql":"select $1::jsonb ->> \'__proto__\'","params":[{"__proto__":"plain"}]'
      const answer = yield* browser.send("POST", "/queries", json(`${body}}`))
      assert.strictEqual(answer.status, 202, answer.text)
      assert.strictEqual((yield* settled(browser, submittedId(answer))).state, "Succeeded")
      const beside = yield* browser.send("POST", "/queries", json(`${body},"__proto__":{"timeoutMs":1}}`))
      assertRefused(beside, 400, beside.text)
      assert.deepStrictEqual(
        yield* rowsOf(browser, "select $1::jsonb ->> 'constructor'", { params: [{ constructor: "plain" }] }),
        [["plain"]]
      )
    })
  )
})
