import { assert, layer } from "@effect/vitest"
import { once } from "node:events"
import { readdirSync } from "node:fs"
import * as Net from "node:net"
import * as Effect from "effect/Effect"
import { type Browser, cookieName, login, make, problemOf, type RequestOptions, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as RawHttp from "../support/rawHttp.ts"
import * as Service from "../support/service.ts"

const cookieOf = (browser: Browser) => Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")

/** The same browser at another URL of its host, logged in there too. */
const loginAt = (url: string, { cookies }: Browser) => {
  const browser = make(url)
  for (const [name, value] of cookies) browser.cookies.set(name, value)
  return login(browser, { username: "demo", password: Service.demoPassword })
}

const dataOf = (browser: Browser) => browser.send("GET", "/session/data")

/** Puts data in the place of whatever is there, and answers its tag. */
const reset = (browser: Browser, json: unknown) =>
  Effect.map(browser.send("PUT", "/session/data", { json, headers: { "if-match": "*" } }), (answer) => {
    assert.strictEqual(answer.status, 200, answer.text)
    return answer.headers.get("etag") ?? ""
  })

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("HTTP as its RFCs say", (it) => {
  it.effect("a path is that of a call letter by letter, or 404", () =>
    Effect.gen(function* () {
      const { url } = yield* Service.Shared
      const browser = yield* Service.Demo
      const cookie = `Cookie: ${cookieOf(browser)}`
      yield* Service.setOperator(yield* Service.Shared, "demo", true)
      for (const path of [
        "/METRICS",
        "//metrics",
        "/metrics/",
        "/metrics//",
        "/metrics;x",
        "/metrics;",
        "/%6Detrics",
        "/metrics%20",
        "/metrics%3f",
        "/./metrics",
        "/queries/.",
        "/queries/..",
        "/queries/../rows",
        "/x/../metrics",
        "/metrics#x",
        "/metrics\\",
        "/Holdings",
        "/holdings/",
        "/health//live",
        "/health%2Flive",
        "/health/Live",
        "/docs/",
        "/DOCS",
        "/openapi.json/",
        "/openapi%2Ejson",
        "/session/",
        "/Session",
        "/queries/?limit=1",
        "http://x//metrics",
        "http://x/METRICS",
        "http://x?/metrics",
        "metrics"
      ]) {
        const answer = yield* RawHttp.get(url, path, cookie)
        assert.isTrue(
          answer.status === 404 || (path === "metrics" && answer.status === 400),
          `${path} ${answer.status}`
        )
        assert.include(["NotFound", "RequestInvalid"], problemOf(answer).code, path)
      }
      for (const path of [
        "/metrics",
        "/metrics?x=/%2F;//",
        "/metrics?",
        "http://x/metrics",
        "/holdings",
        "/docs",
        "/openapi.json"
      ]) {
        assert.strictEqual((yield* RawHttp.get(url, path, cookie)).status, 200, path)
      }
      for (const [method, path] of [
        ["POST", "/Login"],
        ["POST", "/login/"],
        ["PUT", "/metrics/"],
        ["OPTIONS", "*"]
      ] as const) {
        const answer = yield* RawHttp.send(url, `${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
        assert.strictEqual(answer.status, 404, `${method} ${path}`)
      }
    })
  )

  it.effect("a request has one Host that is one", () =>
    Effect.gen(function* () {
      const { url } = yield* Service.Shared
      const send = (version: string, headers: ReadonlyArray<string>) =>
        RawHttp.send(url, [`GET /health/live HTTP/${version}`, ...headers, "Connection: close", "", ""].join("\r\n"))
      for (const hosts of [
        ["Host: a", "Host: b"],
        ["Host: a", "host: a"],
        [],
        ["Host: a b"],
        ["Host: a/b"],
        ["Host: u@a"],
        ["Host: a, b"],
        ["Host: a:b"],
        ["Host: [::1"]
      ]) {
        const answer = yield* send("1.1", hosts)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [400, "RequestInvalid"], hosts.join())
      }
      for (const host of ["a", "a:3000", "[::1]:3000", "127.0.0.1", ""]) {
        assert.strictEqual((yield* send("1.1", [`Host: ${host}`])).status, 200, host)
      }
      assert.strictEqual((yield* send("1.0", [])).status, 200)
      assert.strictEqual((yield* send("1.0", ["Host: a", "Host: b"])).status, 400)
    })
  )

  it.effect("clients that are refused and never close their sockets do not keep descriptors", () =>
    Effect.gen(function* () {
      const { pid, url } = yield* Service.Shared
      const { hostname, port } = new URL(url)
      const descriptors = Effect.sync(() => readdirSync(`/proc/${pid}/fd`).length)
      const before = yield* descriptors
      const refused = Effect.acquireRelease(
        Effect.promise(async () => {
          const socket = Net.connect({ host: hostname, port: Number(port), allowHalfOpen: true })
          let said = ""
          socket.on("error", () => undefined).on("data", (bytes: Buffer) => (said += String(bytes)))
          socket.write("nonsense\r\n\r\n")
          await once(socket, "end")
          return { socket, said }
        }),
        ({ socket }) => Effect.sync(() => socket.destroy())
      )
      const sockets = yield* Effect.all(Array.from({ length: 30 }, () => refused))
      for (const { said } of sockets) assert.match(said, /^HTTP\/1\.1 400 /)
      yield* eventually(descriptors, (now) => now < before + 10)
      assert.isTrue(sockets.every(({ socket }) => !socket.destroyed))
    }).pipe(Effect.scoped)
  )

  it.effect("a client that waits before it sends its body is told at once what is certain", () =>
    Effect.gen(function* () {
      const { url } = yield* Service.Shared
      const cookie = `Cookie: ${cookieOf(yield* Service.Demo)}`
      /** The first line of the answer to the head of a request. */
      const head = (path: string, length: number, ...more: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const socket = yield* RawHttp.connect(url)
          return yield* Effect.promise(async () => {
            socket.write(
              [
                `POST ${path} HTTP/1.1`,
                "Host: x",
                "Content-Type: application/json",
                `Content-Length: ${length}`,
                ...more,
                "",
                ""
              ].join("\r\n")
            )
            const [bytes] = await once(socket, "data")
            return String(bytes).split("\r\n")[0]
          })
        }).pipe(Effect.scoped)
      const expect = "Expect: 100-continue"
      assert.match((yield* head("/queries", 2 ** 21, expect, cookie)) ?? "", / 413 /)
      assert.match((yield* head("/queries", 10, expect)) ?? "", / 401 /)
      assert.match((yield* head("/login", 2 ** 21, expect)) ?? "", / 413 /)
      assert.match((yield* head("/nothing", 10, expect, cookie)) ?? "", / 404 /)
      assert.match((yield* head("/queries", 10, expect, cookie, "Origin: https://evil.example")) ?? "", / 403 /)
      assert.match((yield* head("/queries", 10, expect, cookie)) ?? "", / 100 /)
      assert.match((yield* head("/queries", 10, "Expect: something-else", cookie)) ?? "", / 417 /)
    })
  )

  it.effect("a 401 says how to prove who one is, without a scheme that makes a browser ask for a password", () =>
    Effect.gen(function* () {
      const { browser } = yield* Service.Shared
      for (const [method, path, options] of [
        ["GET", "/session", {}],
        ["POST", "/queries", { json: { sql: "select 1" } }],
        ["POST", "/login", { json: { username: "demo", password: "wrong" } }]
      ] as const) {
        const answer = yield* browser().send(method, path, options)
        assert.deepStrictEqual(
          [answer.status, answer.headers.get("www-authenticate")],
          [401, 'Cookie realm="holdfast"']
        )
      }
    })
  )

  it.effect("a 415 names the types that the call takes", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const text: RequestOptions = { body: "{}", headers: { "content-type": "text/plain", "if-match": "*" } }
      const asked = (method: string, path: string) =>
        Effect.map(browser.send(method, path, text), (answer) => [
          answer.status,
          problemOf(answer).code,
          answer.headers.get("accept"),
          answer.headers.get("accept-patch")
        ])
      const json = "application/json"
      const patch = `${json}, application/merge-patch+json`
      assert.deepStrictEqual(yield* asked("PATCH", "/session/data"), [415, "UnsupportedMediaType", patch, patch])
      assert.deepStrictEqual(yield* asked("PUT", "/session/data"), [415, "UnsupportedMediaType", json, null])
      assert.deepStrictEqual(yield* asked("POST", "/queries"), [415, "UnsupportedMediaType", json, null])
    })
  )

  it.effect("a stale or weak If-Match changes nothing, whatever changes the data", () =>
    Effect.gen(function* () {
      const browser = yield* (yield* Service.Shared).login()
      for (const method of ["PATCH", "PUT"]) {
        const stale = yield* reset(browser, { n: 0 })
        const etag = yield* reset(browser, { n: 1 })
        const change = (headers: Readonly<Record<string, string>>) =>
          browser.send(method, "/session/data", { json: { n: 2 }, headers: { "if-match": "*", ...headers } })
        for (const [headers, status, code] of [
          [{ "if-match": stale }, 412, "SessionConflict"],
          [{ "if-match": `${stale}, "x"` }, 412, "SessionConflict"],
          [{ "if-match": "" }, 412, "SessionConflict"],
          [{ "if-match": `W/${etag}` }, 412, "SessionConflict"],
          [{ "if-none-match": "*" }, 412, "SessionConflict"],
          [{ "if-none-match": etag }, 412, "SessionConflict"],
          [{ "if-none-match": `"x", W/${etag}` }, 412, "SessionConflict"],
          [{ "if-match": etag, "if-none-match": etag }, 412, "SessionConflict"],
          [{ "if-match": `*, ${etag}` }, 400, "RequestInvalid"],
          [{ "if-match": `${etag}, *` }, 400, "RequestInvalid"],
          [{ "if-match": etag.replaceAll('"', "") }, 400, "RequestInvalid"],
          [{ "if-match": `${etag} ${etag}` }, 400, "RequestInvalid"],
          [{ "if-match": `w/${etag}` }, 400, "RequestInvalid"],
          [{ "if-none-match": "*, *" }, 400, "RequestInvalid"]
        ] as const) {
          const what = `${method} ${JSON.stringify(headers)}`
          const answer = yield* change(headers)
          assert.deepStrictEqual([answer.status, problemOf(answer).code], [status, code], what)
          assert.deepStrictEqual((yield* dataOf(browser)).json, { n: 1 }, what)
        }
        assert.match(problemOf(yield* change({ "if-match": `W/${etag}` })).detail ?? "", /weak tag.*never matches/i)
        for (const headers of [
          { "if-match": etag },
          { "if-match": `, "x,y" ,${etag}` },
          { "if-match": "*", "if-none-match": '"x"' }
        ]) {
          yield* reset(browser, { n: 1 })
          const current = (yield* dataOf(browser)).headers.get("etag") ?? ""
          const asked = Object.fromEntries(
            Object.entries(headers).map(([name, value]) => [name, value.replace(etag, current)])
          )
          assert.strictEqual((yield* change(asked)).status, 200, `${method} ${JSON.stringify(asked)}`)
          assert.deepStrictEqual((yield* dataOf(browser)).json, { n: 2 })
        }
      }
    })
  )

  it.effect("of many patches that name the same version exactly one takes effect", () =>
    Effect.gen(function* () {
      const browser = yield* (yield* Service.Shared).login()
      const etag = yield* reset(browser, {})
      const patches = Array.from({ length: 8 }, (_, n) =>
        browser.send("PATCH", "/session/data", { json: { [n]: true }, headers: { "if-match": etag } })
      )
      const answers = yield* Effect.all(patches, { concurrency: "unbounded" })
      assert.deepStrictEqual(answers.map(({ status }) => status).toSorted(), [200, 412, 412, 412, 412, 412, 412, 412])
      assert.lengthOf(Object.keys(JSON.parse((yield* dataOf(browser)).text)), 1)
    })
  )

  it.effect("a GET for a version is 304 where the client has it, and 412 where it wants another", () =>
    Effect.gen(function* () {
      const browser = yield* (yield* Service.Shared).login()
      const stale = yield* reset(browser, { n: 0 })
      const etag = yield* reset(browser, { n: 1 })
      const get = (headers: Readonly<Record<string, string>>, method = "GET") =>
        browser.send(method, "/session/data", { headers })
      for (const headers of [{ "if-none-match": etag }, { "if-none-match": `W/${etag}` }, { "if-none-match": "*" }]) {
        for (const method of ["GET", "HEAD"]) {
          const answer = yield* get(headers, method)
          assert.deepStrictEqual([answer.status, answer.headers.get("etag"), answer.text], [304, etag, ""])
        }
      }
      assert.deepStrictEqual((yield* get({ "if-none-match": stale })).json, { n: 1 })
      assert.deepStrictEqual((yield* get({ "if-match": etag })).json, { n: 1 })
      assert.deepStrictEqual((yield* get({ "if-match": "*" })).json, { n: 1 })
      // If-Match goes first (RFC 9110 13.2.2).
      for (const headers of [
        { "if-match": stale },
        { "if-match": `W/${etag}` },
        { "if-match": stale, "if-none-match": etag }
      ]) {
        const answer = yield* get(headers)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [412, "PreconditionFailed"])
      }
      assert.strictEqual((yield* get({ "if-match": '*, "1"' })).status, 400)
      // What would be refused without the precondition is refused all the same.
      const stranger = (yield* Service.Shared).browser()
      for (const method of ["GET", "PATCH", "DELETE"]) {
        const path = method === "DELETE" ? "/sessions" : "/session/data"
        const answer = yield* stranger.send(method, path, { headers: { "if-match": '"x"', "if-none-match": "*" } })
        assert.strictEqual(answer.status, 401, method)
      }
    })
  )

  it.effect("a call whose subject has no version is not done for a version", () =>
    Effect.gen(function* () {
      const { login } = yield* Service.Shared
      const browser = yield* login()
      const other = yield* login()
      const id = yield* submit(browser, "select pg_sleep(60)")
      const tag = { headers: { "if-match": '"1"' } }
      for (const [method, path, json] of [
        ["DELETE", `/queries/${id}`, undefined],
        ["DELETE", "/sessions", undefined],
        ["POST", "/queries", { sql: "select 1" }],
        ["POST", "/logout", undefined],
        ["POST", "/login", { username: "demo", password: Service.demoPassword }],
        ["GET", "/queries", undefined],
        ["GET", "/health/live", undefined]
      ] as const) {
        const answer = yield* browser.send(method, path, json === undefined ? tag : { ...tag, json })
        assert.deepStrictEqual(
          [answer.status, problemOf(answer).code],
          [412, "PreconditionFailed"],
          `${method} ${path}`
        )
        assert.deepStrictEqual(answer.headers.getSetCookie(), [])
      }
      assert.strictEqual((yield* other.send("GET", "/session")).status, 200)
      const any = { headers: { "if-match": "*" } }
      assert.strictEqual((yield* browser.send("DELETE", `/queries/${id}`, any)).status, 200)
      assert.strictEqual((yield* browser.send("GET", "/queries", any)).status, 200)
    })
  )

  it.effect("a body is stored as it was sent, or refused with the place", () =>
    Effect.gen(function* () {
      const browser = yield* (yield* Service.Shared).login()
      yield* reset(browser, { kept: true })
      for (const method of ["PATCH", "PUT"]) {
        for (const [body, place] of [
          ['{"n":9007199254740993}', '["n"]'],
          ['{"a":[1,{"b":0.1000000000000000000001}]}', '["a"][1]["b"]'],
          ['{"n":-0}', '["n"]'],
          ['{"a":1,"a":2}', '["a"]']
        ] as const) {
          const headers = { "content-type": "application/json", "if-match": "*" }
          const answer = yield* browser.send(method, "/session/data", { body, headers })
          assert.strictEqual(answer.status, 400, body)
          assert.include(problemOf(answer).detail ?? "", place)
          assert.deepStrictEqual((yield* dataOf(browser)).json, { kept: true })
        }
      }
      const numbers = "[9007199254740992,0.1,1e-7,1.5,100]"
      const headers = { "content-type": "application/merge-patch+json" }
      yield* browser.send("PATCH", "/session/data", { body: `{"n":${numbers}}`, headers })
      assert.include((yield* dataOf(browser)).text, numbers)
    })
  )

  it.effect("services on two ports of one host have cookies of their own and leave the other's alone", () =>
    Effect.gen(function* () {
      const { env, login: logIn } = yield* Service.Shared
      const another = yield* Service.launch({ args: ["serve"], env })
      const url = yield* Service.listening(another)
      yield* Service.ready(url)
      const first = yield* logIn()
      // A browser sends a host's cookies to all of its ports.
      const second = yield* loginAt(url, first)
      assert.deepStrictEqual(Array.from(second.cookies.keys()), [cookieName(first.url), cookieName(url)])
      assert.strictEqual((yield* second.send("POST", "/logout")).status, 204)
      assert.deepStrictEqual(Array.from(second.cookies.keys()), [cookieName(first.url)])
      const ended = yield* second.send("GET", "/session")
      assert.strictEqual(problemOf(ended).code, "SessionMissing")
      assert.deepStrictEqual(ended.headers.getSetCookie(), [])
      assert.strictEqual((yield* first.send("GET", "/session")).status, 200)
    })
  )

  it.effect("a misspelt member of a body is refused and named", () =>
    Effect.gen(function* () {
      const browser = yield* (yield* Service.Shared).login()
      for (const [path, json, names] of [
        ["/login", { username: "demo", password: Service.demoPassword, pasword: "x" }, ["pasword"]],
        ["/queries", { sql: "select 1", timeoutMS: 1, param: [] }, ["timeoutMS", "param"]]
      ] as const) {
        const answer = yield* browser.send("POST", path, { json })
        assert.strictEqual(answer.status, 400, path)
        for (const name of names) assert.include(problemOf(answer).detail ?? "", `"${name}"`)
      }
    })
  )

  it.effect("PATCH and PUT of another site are refused, and change nothing", () =>
    Effect.gen(function* () {
      const browser = yield* (yield* Service.Shared).login()
      yield* reset(browser, { mine: true })
      for (const method of ["PATCH", "PUT", "DELETE"]) {
        for (const foreign of [{ origin: "https://evil.example" }, { "sec-fetch-site": "cross-site" }]) {
          const path = method === "DELETE" ? "/sessions" : "/session/data"
          const headers = { ...foreign, "if-match": "*" }
          const answer = yield* browser.send(method, path, { ...(method !== "DELETE" && { json: { x: 1 } }), headers })
          assert.deepStrictEqual([answer.status, problemOf(answer).code], [403, "OriginRefused"], method)
        }
      }
      assert.deepStrictEqual((yield* dataOf(browser)).json, { mine: true })
    })
  )
})
