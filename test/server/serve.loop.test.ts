import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { once } from "node:events"
import type { Socket } from "node:net"
import { type Browser, problemOf, queriesOf, queryOf, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Events from "../support/events.ts"
import * as RawHttp from "../support/rawHttp.ts"
import * as Service from "../support/service.ts"
import * as Turns from "../support/turns.ts"

const mebibyte = 1024 * 1024

/** What one user may do to the turns of the event loop, in milliseconds of the processor, whatever they ask for. */
const bound = 100
/** What one user may do to the memory of the service. */
const memory = 500 * mebibyte

class Measured extends Context.Service<Measured, Effect.Success<typeof Turns.make>>()("test/Measured") {}

const maxAnswers = 8
const maxStreams = 5

/** A service of short deadlines whose turns are measured. */
const layerMeasured = Layer.unwrap(
  Effect.map(Turns.make, (turns) =>
    Service.layerShared({
      ...turns.env,
      HOLDFAST_WRITE_TIMEOUT: "2 seconds",
      HOLDFAST_MAX_ANSWERS_PER_USER: String(maxAnswers),
      HOLDFAST_MAX_STREAMS_PER_USER: String(maxStreams)
    }).pipe(Layer.merge(Layer.succeed(Measured, turns)))
  )
)

/** A user of the test's own, who may have places and streams of their own. */
const userOf = (name: string) =>
  Effect.gen(function* () {
    const service = yield* Service.Shared
    yield* Service.addUser(service, name)
    return yield* service.login(name)
  })

/** The bytes that still come on a socket until it is closed. */
const restOf = (socket: Socket) =>
  Effect.callback<number>((resume) => {
    let bytes = 0
    const done = () => resume(Effect.succeed(bytes))
    if (socket.destroyed) return done()
    socket.on("data", (chunk: Uint8Array) => (bytes += chunk.length))
    socket.once("close", done).resume()
  })

/** Does something, with somebody else asking for their session all the while, and holds what it cost against the bounds. */
const bounded = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const service = yield* Service.Shared
    const turns = yield* Measured
    const demo = yield* Service.Demo
    const quiet = yield* turns.look(service)
    const asking = yield* Effect.forkChild(
      Effect.forever(
        Effect.andThen(
          Effect.map(demo.send("GET", "/session"), ({ status }) => assert.strictEqual(status, 200)),
          Effect.sleep("10 millis")
        )
      )
    )
    const value = yield* effect
    asking.interruptUnsafe()
    const { resident, worst } = yield* turns.look(service)
    assert.isBelow(worst, bound, `${what} made a turn of the event loop long`)
    assert.isBelow(resident - Math.min(quiet.resident, 250 * mebibyte), memory, `${what} took memory`)
    return value
  })

const ended = (browser: Browser, id: string) =>
  eventually(
    Effect.map(browser.send("GET", `/queries/${id}`), queryOf),
    ({ state }) => ["Succeeded", "Failed", "Canceled"].includes(state),
    "120 seconds"
  )

const runs = (browser: Browser, sql: string) =>
  Effect.gen(function* () {
    const query = yield* ended(browser, yield* submit(browser, sql))
    assert.strictEqual(query.state, "Succeeded", query.error?.message)
    return query.id
  })

/** Large values, and the bytes of the page that shows each at least. */
const large = {
  json: ["select ('['||repeat('1,',4000000)||'1]')::json", 8_000_003],
  "json of wide objects": [
    `select ('{'||string_agg('"k'||i||'":1', ',')||'}')::json from generate_series(1,300000) i`,
    3_000_000
  ],
  integers: ["select array_agg(i) from generate_series(1,500000) i", 3_388_898],
  texts: [`select array_agg('a "b'||i) from generate_series(1,200000) i`, 2_000_000],
  bytes: ["select decode(repeat('ab',8000000),'hex')", 10_666_672],
  "a thousand columns": [
    `select ${Array.from({ length: 1600 }, (_, at) => `i+${at} c${at}`).join(",")} from generate_series(1,500) i`,
    2_000_000
  ]
} as const

/** Asks, and reads nothing but the first bytes of the answer, which `head` tells when they are there. */
const unread = (browser: Browser, path: string) =>
  Effect.gen(function* () {
    const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
    const socket = yield* RawHttp.connect(browser.url)
    let head = ""
    socket.once("data", (chunk: Buffer) => {
      head = chunk.toString("latin1", 0, 1000)
      socket.pause()
    })
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${new URL(browser.url).host}\r\nCookie: ${cookie}\r\n\r\n`)
    return { socket, head: () => head }
  })

/** Reads a page to its end, for longer than the write deadline in all, and never pauses as long. Tells its bytes. */
const readSlowly = (browser: Browser, id: string) =>
  Effect.gen(function* () {
    const { socket } = yield* unread(browser, `/queries/${id}/rows`)
    return yield* Effect.promise(async () => {
      let size = 0
      const over = once(socket, "close")
      socket.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (chunk.includes(`"next":null}`)) return void socket.end()
        socket.pause()
        setTimeout(() => socket.resume(), 60)
      })
      socket.resume()
      await over
      return size
    })
  })

const post = (browser: Browser, body: string) =>
  browser.send("POST", "/queries", { body, headers: { "content-type": "application/json" } })

layer(layerMeasured, { excludeTestServices: true, timeout: "180 seconds" })("one user and the others", (it) => {
  it.effect("I1 no value that a statement returns keeps the event loop from others, and each is there in full", () =>
    Effect.gen(function* () {
      const browser = yield* userOf("large")
      yield* bounded(
        "to keep and to read large values",
        Effect.gen(function* () {
          const ids = yield* Effect.forEach(Object.values(large), ([sql]) => runs(browser, sql), { concurrency: 5 })
          for (const [at, [what, [, bytes]]] of Object.entries(large).entries()) {
            const size = yield* Effect.promise(async () => {
              const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
              const response = await fetch(`${browser.url}/queries/${ids[at]}/rows`, { headers: { cookie } })
              let size = 0
              for await (const chunk of response.body ?? []) size += chunk.length
              return size
            })
            assert.isAtLeast(size, bytes, what)
          }
        })
      )
    })
  )

  it.effect(
    "I1 answers that nobody reads are few in memory, refused beyond a number, and closed after the write deadline",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        const browser = yield* userOf("unread")
        const id = yield* runs(browser, "select repeat(chr(1),16000000)")
        yield* bounded(
          "not to read",
          Effect.gen(function* () {
            const asked = yield* Effect.forEach(Array.from({ length: 40 }), () =>
              unread(browser, `/queries/${id}/rows`)
            )
            const refused = yield* eventually(
              Effect.sync(() => asked.map(({ head }) => head()).filter((head) => head.startsWith("HTTP/1.1 429"))),
              // As many may wait as may be answered.
              ({ length }) => length === 40 - 2 * maxAnswers,
              "60 seconds"
            )
            for (const head of refused) {
              assert.include(head, '"code":"TooManyAnswers"')
              assert.match(head, /^retry-after: 1\r$/im)
            }
            const answered = asked.filter(({ head }) => head().startsWith("HTTP/1.1 200"))
            // Short answers need no place.
            assert.strictEqual((yield* browser.send("GET", `/queries/${id}`)).status, 200)
            // Others have places of their own. One who reads slowly, but reads, has the whole answer.
            const demo = yield* Service.Demo
            const theirs = yield* runs(demo, "select repeat('x', 200000)")
            assert.strictEqual((yield* demo.send("GET", `/queries/${theirs}/rows`)).text.length, 200_071)
            const slowly = yield* runs(demo, "select repeat('x', 1300000) from generate_series(1, 2)")
            const reading = yield* Effect.forkChild(readSlowly(demo, slowly))
            const closed = yield* eventually(
              Effect.map(demo.send("GET", "/metrics"), ({ text }) =>
                Number(/^holdfast_http_slow_readers_total (\d+)/m.exec(text)?.[1] ?? 0)
              ),
              (count) => count >= maxAnswers,
              "60 seconds"
            )
            assert.isAtMost(closed, 40)
            assert.isAbove(yield* Fiber.join(reading), 2_600_000)
            // They were cut off: what is left to read is not the whole.
            assert.isAtLeast(answered.length, 1)
            for (const { socket } of answered) assert.isBelow(yield* restOf(socket), 90_000_000)
            for (const { socket } of asked) socket.destroy()
          })
        )
        // A place is free again.
        const answer = yield* eventually(
          browser.send("GET", `/queries/${id}/rows`),
          ({ status }) => status === 200,
          "60 seconds"
        )
        assert.strictEqual(answer.text.length, 96_000_071)
        assert.include(service.stdout(), "took nothing of an answer for")
      })
  )

  it.effect("I1 a page of queries ends with the bytes of its JSON, and Link leads on", () =>
    Effect.gen(function* () {
      const browser = yield* userOf("listing")
      const long = "\\u0001".repeat(170_000)
      for (let count = 0; count < 6; count++) {
        const answer = yield* post(browser, `{"sql":"select ${count} /*${long}*/"}`)
        assert.strictEqual(answer.status, 202, answer.text)
      }
      yield* bounded(
        "to list",
        Effect.gen(function* () {
          const seen: Array<string> = []
          for (let path: string | undefined = "/queries?limit=1000"; path !== undefined;) {
            const answer: Effect.Success<ReturnType<Browser["send"]>> = yield* browser.send("GET", path)
            assert.isBelow(answer.text.length, 5 * mebibyte)
            seen.push(...queriesOf(answer).map(({ sql }) => sql.slice(7, 8)))
            path = /^<(.*)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1]
          }
          assert.deepStrictEqual(seen, ["5", "4", "3", "2", "1", "0"])
          for (let count = 0; count < 20; count++) yield* unread(browser, "/queries?limit=1000")
        })
      )
    })
  )

  it.effect("I1 a user has so many event streams; one more is 429, and one that is closed makes room", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const browser = yield* userOf("watching")
      const id = yield* submit(browser, `select pg_sleep(600), 'watched' /*${"é".repeat(200_000)}*/`)
      yield* Service.runs(queries.name, "'watched'")
      const watching = yield* Effect.forEach(Array.from({ length: maxStreams }), () =>
        Events.watch(browser, `/queries/${id}/events`)
      )
      assert.deepStrictEqual(
        watching.map(({ status }) => status),
        Array.from({ length: maxStreams }, () => 200)
      )
      // An event is whole, however long it is.
      yield* eventually(
        Effect.sync(() => watching[0]?.events().length),
        (count) => count === 3,
        "60 seconds"
      )
      const refused = yield* browser.send("GET", `/queries/${id}/events`)
      assert.strictEqual(problemOf(refused).code, "TooManyStreams")
      assert.strictEqual(refused.headers.get("retry-after"), "1")
      yield* watching[0]?.close ?? Effect.void
      yield* eventually(
        Effect.scoped(Effect.map(Events.watch(browser, `/queries/${id}/events`), ({ status }) => status)),
        (status) => status === 200,
        "60 seconds"
      )
      yield* browser.send("DELETE", `/queries/${id}`)
    })
  )

  it.effect("I1 a body of many values, many members or many levels is 400 before it is read, and logs nothing", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const browser = yield* userOf("bodies")
      const log = service.stdout() + service.stderr()
      const members = (count: number) => `{${Array.from({ length: count }, (_, at) => `"k${at}":1`).join(",")}}`
      yield* bounded(
        "bodies",
        Effect.gen(function* () {
          for (const [body, problem] of [
            [`{"sql":"select 1","params":[${"[".repeat(5000)}${"]".repeat(5000)}]}`, "more than 500 levels"],
            [`{"sql":1,"params":[${'{"a":'.repeat(5000)}1${"}".repeat(5000)}]}`, "more than 500 levels"],
            [`{"sql":"select $1::json","params":[[${"1,".repeat(500_000)}1]]}`, "more than 50000 values"],
            [`{"sql":"select $1::json","params":[${members(80_000)}]}`, "more than"]
          ] as const) {
            const answer = yield* post(browser, body)
            assert.strictEqual(answer.status, 400, answer.text)
            assert.include(problemOf(answer).detail, problem)
          }
          // As many as there may be.
          for (const param of [
            `[${"1,".repeat(49_000)}1]`,
            members(9900),
            `[${"1.5e300,".repeat(49_000)}1]`,
            JSON.stringify(`[${"1,".repeat(480_000)}1]`)
          ]) {
            const answer = yield* post(browser, `{"sql":"select length($1::json::text)","params":[${param}]}`)
            assert.strictEqual(answer.status, 202, answer.text)
          }
          for (const data of [
            `{"a":[${"1,".repeat(500_000)}1]}`,
            members(80_000),
            `{"a":[${"[],".repeat(30_000)}1]}`
          ]) {
            const headers = { "content-type": "application/json" }
            const answer = yield* browser.send("PATCH", "/session/data", { body: data, headers })
            assert.include([400, 413], answer.status, answer.text)
          }
          // It has as many zeros as a regular expression would look at again and again.
          const zeros = `{"a":1.${"0".repeat(60_000)}1}`
          const exact = yield* browser.send("PATCH", "/session/data", {
            body: zeros,
            headers: { "content-type": "application/json" }
          })
          assert.strictEqual(exact.status, 400, exact.text)
        })
      )
      assert.strictEqual(service.stdout() + service.stderr(), log)
    })
  )
})
