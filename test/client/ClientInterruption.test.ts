/**
 * A request interrupted at every step of it: while it waits, before and after its connection, its head and each piece of its body.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import type * as Http from "node:http"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as InterruptSweep from "../../src/testing/InterruptSweep.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

/** Lets the event loop go round once, and so the network on. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

const withoutScope = <A, E>(work: Effect.Effect<A, E>) =>
  Effect.updateContext(work, (context: Context.Context<never>) => Context.omit(Scope.Scope)(context))

type Way = (client: HttpClient.HttpClient, url: string) => Effect.Effect<unknown, unknown>

const ways: Record<string, Way> = {
  "read whole": (client, url) => Effect.flatMap(client.get(url), ({ text }) => text),
  "read as a stream": (client, url) => Effect.flatMap(client.get(url), ({ stream }) => Stream.runDrain(stream)),
  "with a streamed body": (client, url) => {
    const body = HttpBody.stream(Stream.mapEffect(Stream.range(1, 5), (n) => Effect.as(turn, Buffer.from(`${n}`))))
    return Effect.flatMap(client.execute(HttpClientRequest.post(url, { body })), ({ text }) => text)
  },
  "with a scope of its own": (client, url) =>
    Effect.scoped(Effect.flatMap(HttpClient.withScope(client).get(url), ({ text }) => text)),
  "in line for the one connection": (client, url) =>
    Effect.all(
      [1, 2, 3].map(() => Effect.flatMap(client.get(url), ({ text }) => text)),
      { concurrency: "unbounded" }
    )
}

describe("a request that is interrupted at any step", () => {
  const all = Object.entries(ways)
  for (const [second, reuse] of (["pooled", "none"] as const).entries()) {
    for (const [number, [name, way]] of all.entries()) {
      it.live(`${name}, ${reuse}: nothing runs on, the next is answered, and no connection is left after the end`, () =>
        Effect.gen(function* () {
          const steps = new Set<string>()
          let step = "not connected"
          let isBare = false
          const server = yield* Servers.http((request, response) => {
            step = "asked"
            request.resume().once("end", () => {
              response.writeHead(200).write("one ")
              step = "head"
              setImmediate(() => {
                response.write("two ")
                step = "body"
                setImmediate(() => response.end("three"))
              })
            })
          })
          const options: Options = { reuse, retry: false, grace: 0, connectionsPerOrigin: 1, timeout: "1 minute" }
          const once = Effect.gen(function* () {
            const session = yield* ClientSession.make(options)
            step = "not connected"
            // Every other time as a program runs that has no scope around its requests: then Effect does not look after them, too.
            const work = way(session.client, server.url)
            isBare = !isBare
            const fiber = yield* Effect.forkChild(isBare ? withoutScope(work) : work, { startImmediately: true })
            const turns = ((yield* Scheduler.MaxOpsBeforeYield) - 3) % 13
            for (let n = 0; n < turns; n++) yield* turn
            const exit = fiber.pollUnsafe()
            steps.add(exit === undefined ? step : exit._tag)
            yield* Fiber.interrupt(fiber)
            assert.strictEqual(session.running(), 0)
            if (reuse === "none") yield* server.allClosed
            assert.strictEqual(yield* Effect.flatMap(session.client.get(server.url), (r) => r.text), "one two three")
          }).pipe(
            Effect.scoped,
            Effect.andThen(server.allClosed),
            Effect.andThen(
              Effect.flatMap(Ledger.Ledger, ({ holdings }) => eventually(holdings, (all) => all.length === 0))
            )
          )
          yield* InterruptSweep.sweep(once, { share: { number: 2 * number + second, of: 2 * all.length } })
          assert.isAtLeast(steps.size, 2, `only ${[...steps]}`)
        }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
      )
    }
  }
})

describe("a request with a scope of its own is given up when that closes, though nobody interrupts it", () => {
  const given = Effect.gen(function* () {
    const session = yield* ClientSession.make({ retry: false, grace: 0 })
    const scope = yield* Scope.make()
    const get = (url: string) => Scope.provide(HttpClient.withScope(session.client).get(url), scope)
    return { session, get, close: Scope.close(scope, Exit.void) }
  })
  const isClosed = (error: HttpClientError) => assert.strictEqual(ClientError.from(error).reason._tag, "Closed")

  it.live("while it waits for its answer", () =>
    Effect.gen(function* () {
      const server = yield* Servers.silent
      const { close, get, session } = yield* given
      const waiting = yield* Effect.forkChild(Effect.flip(get(server.url)), { startImmediately: true })
      yield* eventually(Effect.sync(server.sockets), (open) => open === 1)
      yield* close
      isClosed(yield* Fiber.join(waiting))
      assert.strictEqual(session.running(), 0)
      yield* server.allClosed
    })
  )

  it.live("while its body is read", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => {
        response.writeHead(200).write("begun")
      })
      const { close, get, session } = yield* given
      const { text } = yield* get(server.url)
      const reading = yield* Effect.forkChild(Effect.flip(text), { startImmediately: true })
      yield* close
      isClosed(yield* Fiber.join(reading))
      assert.strictEqual(session.running(), 0)
      yield* server.allClosed
    })
  )

  it.live("before it begins: then nothing is sent", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const { close, get } = yield* given
      yield* close
      isClosed(yield* Effect.flip(get(server.url)))
      assert.strictEqual(server.accepted(), 0)
    })
  )
})

describe("a body that two read at once", () => {
  const surroundings: ReadonlyArray<
    readonly [name: string, around: <A, E>(work: Effect.Effect<A, E>) => Effect.Effect<A, E>]
  > = [
    ["with a scope around the request", Effect.scoped],
    ["without one", withoutScope]
  ]
  for (const [name, around] of surroundings) {
    it.live(`is read by the one though the other gives up, and let go of by the last who does, ${name}`, () =>
      Effect.gen(function* () {
        const responses: Array<Http.ServerResponse> = []
        const server = yield* Servers.http((_, response) => {
          response.writeHead(200).write("half ")
          responses.push(response)
        })
        const session = yield* ClientSession.make({ retry: false, grace: 0 })
        const twoReaders = Effect.gen(function* () {
          const { text } = yield* session.client.get(server.url)
          const readers = [
            yield* Effect.forkChild(text, { startImmediately: true }),
            yield* Effect.forkChild(text, { startImmediately: true })
          ] as const
          yield* Fiber.interrupt(readers[0])
          return readers[1]
        })
        const read = Effect.flatMap(twoReaders, (other) => {
          responses[0]?.end("whole")
          return Fiber.join(other)
        })
        assert.strictEqual(yield* around(read), "half whole")
        yield* around(Effect.flatMap(twoReaders, Fiber.interrupt))
        assert.strictEqual(session.running(), 0)
        yield* eventually(Effect.sync(server.sockets), (open) => open <= 1)
      })
    )
  }
})

describe("a request that is given up in line", () => {
  const reads = {
    interrupted: (client: HttpClient.HttpClient, url: string) => client.get(url),
    "with a scope of its own": (client: HttpClient.HttpClient, url: string) =>
      Effect.scoped(HttpClient.withScope(client).get(url))
  }
  for (const [name, way] of Object.entries(reads)) {
    it.live(`${name}, is not sent when its turn comes, and those around it are`, () =>
      Effect.gen(function* () {
        const asked: Array<string | undefined> = []
        let answerFirst: (() => void) | undefined
        const server = yield* Servers.http((request, response) => {
          asked.push(request.url)
          if (request.url === "/first") answerFirst = () => response.end("first")
          else response.end("answer")
        })
        const { client, running } = yield* ClientSession.make({ retry: false, grace: 0, connectionsPerOrigin: 1 })
        const start = (path: string) =>
          Effect.forkChild(
            Effect.flatMap(client.get(server.url + path), ({ text }) => text),
            { startImmediately: true }
          )
        const first = yield* start("/first")
        yield* eventually(
          Effect.sync(() => asked),
          (asked) => asked.length === 1
        )
        const given = yield* Effect.forkChild(way(client, `${server.url}/given-up`), { startImmediately: true })
        const third = yield* start("/third")
        yield* Fiber.interrupt(given)
        assert.strictEqual(running(), 2)
        answerFirst?.()
        assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(third)], ["first", "answer"])
        assert.deepStrictEqual([asked, server.accepted()], [["/first", "/third"], 1])
      })
    )
  }
})

describe("a request that is given up just before it is sent", () => {
  it.live("has no connection opened for it when its turn comes", () =>
    Effect.gen(function* () {
      let answerFirst: (() => void) | undefined
      const server = yield* Servers.http((_, response) => {
        answerFirst = () => response.writeHead(200, { connection: "close" }).end("first")
      })
      const { client } = yield* ClientSession.make({ retry: false, grace: 0, connectionsPerOrigin: 1 })
      const start = Effect.forkChild(
        Effect.flatMap(client.get(server.url), ({ text }) => text),
        { startImmediately: true }
      )
      const first = yield* start
      yield* eventually(
        Effect.sync(() => answerFirst),
        (answer) => answer !== undefined
      )
      yield* Fiber.interrupt(yield* start)
      answerFirst?.()
      yield* Fiber.join(first)
      yield* server.allClosed
      assert.strictEqual(server.accepted(), 1)
    })
  )

  it.live("is not sent on the connection that is there at that moment, which the next one has", () =>
    Effect.gen(function* () {
      const asked: Array<string | undefined> = []
      const server = yield* Servers.http(({ url }, response) => {
        asked.push(url)
        response.end("answer")
      })
      const { client } = yield* ClientSession.make({ retry: false, grace: 0, connectionsPerOrigin: 1 })
      const get = (path: string) => Effect.flatMap(client.get(server.url + path), ({ text }) => text)
      const given = yield* Effect.forkChild(get("/given-up"), { startImmediately: true })
      // Called by undici when it has the connection, and before it sends.
      const giveUp = () => given.interruptUnsafe()
      subscribe("undici:client:connected", giveUp)
      yield* Effect.addFinalizer(() => Effect.sync(() => unsubscribe("undici:client:connected", giveUp)))
      yield* Fiber.await(given)
      assert.strictEqual(yield* get("/next"), "answer")
      assert.deepStrictEqual([asked, server.accepted()], [["/next"], 1])
    })
  )
})
