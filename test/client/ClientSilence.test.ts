/**
 * C10 for outgoing HTTP: connections that die without a word, as behind a NAT or a firewall that forgot them. What is open is
 * swallowed; new connections work.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Net from "node:net"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

/** Lets the event loop go round until undici has back what an answer came on. */
const back = Effect.repeat(
  Effect.callback<void>((resume) => {
    setImmediate(() => resume(Effect.void))
  }),
  { times: 5 }
)

/** One connection through the network. */
interface Route {
  /** Swallows all that is sent on it from now on. */
  kill: () => void
  readonly isOpen: () => boolean
}

/** A network to a server, whose connections can be killed one by one. */
const network = (server: Servers.TestServer) =>
  Effect.gen(function* () {
    const routes: Array<Route> = []
    const { accepted, url } = yield* Servers.raw((near) => {
      const far = Net.connect(Number(new URL(server.url).port), "127.0.0.1")
      let isDead = false
      for (const [from, to] of [
        [near, far],
        [far, near]
      ] as const) {
        from.on("data", (bytes: Buffer) => isDead || to.write(bytes))
        from.on("error", () => undefined)
        from.on("close", () => isDead || to.destroy())
      }
      routes.push({ kill: () => void (isDead = true), isOpen: () => !near.destroyed })
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => routes.forEach(({ kill }) => kill())))
    const open = () => routes.filter(({ isOpen }) => isOpen()).length
    return { url, routes, accepted, open, killAll: () => routes.forEach(({ kill }) => kill()) }
  })

/** Answers `/together` when so many wait for it, `/never` never, `/stop` with half of an answer, and all else at once. */
const server = (together: number) =>
  Effect.gen(function* () {
    const asked: Array<string> = []
    const waiting: Array<() => void> = []
    const running = yield* Servers.http((request, response) => {
      const { method, url } = request
      // Without this it would tell the client for how long it keeps the connection, which is less than `idleTime`.
      response.setHeader("connection", "keep-alive")
      asked.push(`${method} ${url}`)
      if (url === "/stop") response.writeHead(200).write("half")
      else if (url === "/together") {
        waiting.push(() => response.end("answer"))
        if (waiting.length === together) waiting.splice(0).forEach((answer) => answer())
      } else if (url !== "/never") response.end("answer")
    })
    return { ...running, asked }
  })

const text = (client: HttpClient.HttpClient, url: string) => Effect.flatMap(client.get(url), ({ text }) => text)

const post = (client: HttpClient.HttpClient, url: string) =>
  Effect.flatMap(client.execute(HttpClientRequest.post(url)), ({ text }) => text)

const reasonOf = (work: Effect.Effect<unknown, HttpClientError>) =>
  Effect.map(Effect.flip(work), (error) => {
    const { reason } = ClientError.from(error)
    return "phase" in reason ? `${reason._tag} ${reason.phase}` : reason._tag
  })

/** A session with so many unused connections, of one age. */
const pooled = (count: number, options: Options = {}) =>
  Effect.gen(function* () {
    const far = yield* server(count)
    const near = yield* network(far)
    const { client } = yield* ClientSession.make({ grace: 0, idleTime: "5 minutes", ...options })
    const all = Array.from({ length: count }, () => text(client, `${near.url}/together`))
    yield* Effect.all(all, { concurrency: "unbounded" })
    yield* back
    assert.strictEqual(near.open(), count)
    far.asked.length = 0
    return { ...near, client, asked: far.asked }
  })

describe("C10 a connection that dies without a word", () => {
  it.live(
    "ten unused ones: by default the next request that may be retried is answered within 5 s, and the next at once",
    () =>
      Effect.gen(function* () {
        const { accepted, client, killAll, open, url } = yield* pooled(10)
        killAll()
        const [took, answer] = yield* Effect.timed(text(client, url))
        assert.strictEqual(answer, "answer")
        assert.isBelow(Duration.toMillis(took), 5000)
        assert.deepStrictEqual([accepted(), open()], [11, 1])
        yield* back
        assert.strictEqual(yield* text(client, url), "answer")
        assert.strictEqual(accepted(), 11)
      })
  )

  it.live("the one that was tried is given up although it is the only one that may be open", () =>
    Effect.gen(function* () {
      const options: Options = { silenceTimeout: "50 millis", connectionsPerOrigin: 1 }
      const { client, killAll, url } = yield* pooled(1, options)
      killAll()
      assert.strictEqual(yield* text(client, url), "answer")
    })
  )

  it.live("a request that may not be retried has its time, and its siblings are closed as soon as it is silent", () =>
    Effect.gen(function* () {
      const options: Options = { silenceTimeout: "50 millis", headersTimeout: "2 seconds" }
      const { client, killAll, open, url } = yield* pooled(5, options)
      killAll()
      const dead = yield* Effect.forkChild(reasonOf(post(client, url)), { startImmediately: true })
      yield* eventually(Effect.sync(open), (open) => open === 1)
      assert.isUndefined(dead.pollUnsafe())
      assert.strictEqual(yield* post(client, url), "answer")
      assert.strictEqual(yield* Fiber.join(dead), "Timeout headers")
    })
  )

  for (const [name, options, expected] of [
    ["headersTimeout", { headersTimeout: "700 millis" }, "Timeout headers"],
    ["timeout", { timeout: "700 millis" }, "Timeout total"]
  ] as const) {
    it.live(`running requests end within ${name}, and the next is answered`, () =>
      Effect.gen(function* () {
        const { client, killAll, open, url } = yield* pooled(6, { silenceTimeout: "Infinity", ...options })
        killAll()
        const outcomes = yield* Effect.forEach([1, 2, 3], () => reasonOf(text(client, url)), { concurrency: 3 })
        assert.deepStrictEqual(outcomes, [expected, expected, expected])
        yield* eventually(Effect.sync(open), (open) => open === 0)
        assert.strictEqual(yield* text(client, url), "answer")
      })
    )
  }

  it.live("one that dies in a body ends within bodyTimeout, and so do its siblings", () =>
    Effect.gen(function* () {
      const { client, open, routes, url } = yield* pooled(4, { bodyTimeout: "50 millis" })
      const { text: rest } = yield* client.get(`${url}/stop`)
      routes.forEach(({ kill }) => kill())
      assert.strictEqual(yield* reasonOf(rest), "Timeout body")
      yield* eventually(Effect.sync(open), (open) => open === 0)
    })
  )

  it.live("of its siblings, one that was heard of since and those of another server are left alone", () =>
    Effect.gen(function* () {
      const { accepted, client, open, url } = yield* pooled(3, { silenceTimeout: "50 millis", retry: false })
      const other = yield* Servers.good
      yield* text(client, other.url)
      const silent = yield* Effect.forkChild(Effect.ignore(post(client, `${url}/never`)), { startImmediately: true })
      assert.strictEqual(yield* text(client, url), "answer")
      yield* eventually(Effect.sync(open), (open) => open < 3)
      assert.isUndefined(silent.pollUnsafe())
      assert.strictEqual(yield* text(client, url), "answer")
      assert.deepStrictEqual([accepted(), open(), other.sockets()], [3, 2, 1])
    })
  )

  it.live("one that breaks when it is used again is replaced, and its siblings are closed", () =>
    Effect.gen(function* () {
      // Answers ten together; then a connection that comes back is reset.
      let isReset = false
      const waiting: Array<Net.Socket> = []
      const answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer"
      const server = yield* Servers.raw((socket) => {
        let isOld = false
        socket.on("data", () => {
          if (isReset && isOld) socket.resetAndDestroy()
          isOld = true
          waiting.push(socket)
          if (isReset || waiting.length === 10) waiting.splice(0).forEach((one) => one.write(answer))
        })
      })
      const { client } = yield* ClientSession.make({ grace: 0, idleTime: "5 minutes", retry: { times: 1 } })
      const all = Array.from({ length: 10 }, () => text(client, server.url))
      yield* Effect.all(all, { concurrency: "unbounded" })
      isReset = true
      yield* back
      assert.strictEqual(yield* text(client, server.url), "answer")
      yield* eventually(Effect.sync(server.sockets), (open) => open === 1)
      assert.strictEqual(server.accepted(), 11)
    })
  )
})

describe("a server that takes its time", () => {
  const slow = Effect.gen(function* () {
    let asked = 0
    const server = yield* Servers.http((request, response) => {
      asked++
      if (request.url === "/slow") setTimeout(() => response.end("slow"), 300)
      else response.end("quick")
    })
    return { url: server.url, asked: () => asked }
  })

  it.live("is asked once on a new connection, also for longer than silenceTimeout", () =>
    Effect.gen(function* () {
      const { asked, url } = yield* slow
      const { client } = yield* ClientSession.make({ grace: 0, silenceTimeout: "50 millis" })
      assert.strictEqual(yield* text(client, `${url}/slow`), "slow")
      assert.strictEqual(asked(), 1)
    })
  )

  for (const [name, options] of [
    ["where silenceTimeout is Infinity", { silenceTimeout: "Infinity" }],
    ["where nothing is retried", { silenceTimeout: "50 millis", retry: false }],
    ["where the budget of the session is used up", { silenceTimeout: "50 millis", retry: { burst: 0, ratio: 0 } }]
  ] as const) {
    it.live(`is asked once on a connection that was used before, ${name}`, () =>
      Effect.gen(function* () {
        const { asked, url } = yield* slow
        const { client } = yield* ClientSession.make({ grace: 0, ...options })
        yield* text(client, url)
        yield* back
        assert.strictEqual(yield* text(client, `${url}/slow`), "slow")
        assert.strictEqual(asked(), 2)
      })
    )
  }

  it.live("and says that it works on it (RFC 9110, 15.2) is not silent", () =>
    Effect.gen(function* () {
      let asked = 0
      const server = yield* Servers.http((_, response) => {
        if (++asked > 1) response.writeProcessing()
        setTimeout(() => response.end("slow"), asked > 1 ? 300 : 0)
      })
      const { client } = yield* ClientSession.make({ grace: 0, silenceTimeout: "100 millis" })
      yield* text(client, server.url)
      yield* back
      assert.strictEqual(yield* text(client, server.url), "slow")
      assert.deepStrictEqual([asked, server.accepted()], [2, 1])
    })
  )

  it.live("is asked once on a connection that took the place of one that was used", () =>
    Effect.gen(function* () {
      let asked = 0
      const server = yield* Servers.http((_, response) => {
        if (++asked === 1) response.writeHead(200, { connection: "close" }).end("quick")
        else setTimeout(() => response.end("slow"), 300)
      })
      const { client } = yield* ClientSession.make({ grace: 0, silenceTimeout: "50 millis", connectionsPerOrigin: 1 })
      yield* text(client, server.url)
      yield* server.allClosed
      assert.strictEqual(yield* text(client, server.url), "slow")
      assert.deepStrictEqual([asked, server.accepted()], [2, 2])
    })
  )
})
