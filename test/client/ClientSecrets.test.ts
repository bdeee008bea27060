import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

const secret = "hunter2"

/** A request with a secret wherever one can stand. */
const secretive = (url: string) =>
  HttpClientRequest.post(`${url}/${secret}?token=${secret}#${secret}`, {
    headers: { authorization: `Bearer ${secret}`, cookie: `sid=${secret}`, "x-session": secret },
    urlParams: { signature: secret },
    body: HttpBody.text(secret)
  })

/** All that somebody might print of it. */
const printed = (thing: unknown): string =>
  [inspect(thing, { depth: 12, showHidden: true }), Formatter.format(thing), String(thing)].join("\n")

const whatIsPrinted = (exit: Exit.Exit<unknown, unknown>): string =>
  exit._tag === "Failure" ? [Cause.pretty(exit.cause), printed(Cause.squash(exit.cause)), printed(exit)].join("\n") : ""

/** Runs the work with everything watched that a program could write down, and gives that. */
const written = (
  options: Options,
  work: (client: HttpClient.HttpClient, note: (thing: unknown) => void) => Effect.Effect<unknown, unknown>
) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const spans: Array<Tracer.Span> = []
    const logger = Logger.make((entry) => {
      lines.push(Logger.formatLogFmt.log(entry), Logger.formatJson.log(entry), printed(entry.message))
    })
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const note = (thing: unknown) => void lines.push(printed(thing))
    yield* Effect.gen(function* () {
      const session = yield* ClientSession.make({ retry: false, grace: 0, ...options })
      const exit = yield* Effect.exit(work(session.client, note))
      yield* Effect.logError("The request ended", exit)
      yield* exit._tag === "Failure" ? Effect.logError("It failed", exit.cause) : Effect.void
      lines.push(whatIsPrinted(exit), printed(session), printed(session.client))
      note(yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.held))
    }).pipe(
      Effect.scoped,
      Effect.withSpan("work"),
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(Tracer.Tracer, tracer),
      Effect.provide(Ledger.layer)
    )
    for (const span of spans) {
      lines.push(span.name, JSON.stringify([...span.attributes]), printed(span.status))
      if (span.status._tag === "Ended") lines.push(whatIsPrinted(span.status.exit))
    }
    assert.isAtLeast(spans.length, 1)
    assert.isAbove(lines.join("").length, 200)
    return lines.join("\n")
  })

const text = ({ text }: HttpClientResponse) => text

describe("no secret of a request or an answer is in a log line, a span, an error or what is printed of them", () => {
  const silent = (
    name: string,
    server: Effect.Effect<Servers.TestServer, never, Scope>,
    options: Options,
    work: (
      client: HttpClient.HttpClient,
      url: string,
      note: (thing: unknown) => void
    ) => Effect.Effect<unknown, unknown>
  ) =>
    it.live(name, () =>
      Effect.gen(function* () {
        const { url } = yield* server
        const output = yield* written(options, (client, note) => work(client, url, note))
        const at = output.indexOf(secret)
        assert.strictEqual(at, -1, output.slice(Math.max(0, at - 300), at + 100))
      })
    )
  type Scope = Effect.Services<typeof Servers.good>

  const secrets = Servers.http((request, response) => {
    response.setHeader("set-cookie", `sid=${secret}`)
    response.setHeader("x-next", secret)
    response.statusCode = request.url?.startsWith("/not") === true ? 403 : 200
    response.end(secret)
  })

  silent("success", secrets, {}, (client, url, note) =>
    Effect.gen(function* () {
      const response = yield* client.execute(secretive(url))
      note(response)
      yield* response.text
      note(response)
      yield* Effect.logInfo("answered", response)
    })
  )
  silent("a status that is not good", secrets, {}, (client, url) =>
    HttpClient.filterStatusOk(client).execute(secretive(`${url}/not`))
  )
  silent("a body that is not JSON", secrets, {}, (client, url) =>
    Effect.flatMap(client.execute(secretive(url)), ({ json }) => json)
  )
  silent("nobody listens", secrets, {}, (client) => client.execute(secretive("http://127.0.0.1:1")))
  silent("timeout of the head", Servers.silent, { headersTimeout: "50 millis" }, (client, url) =>
    client.execute(secretive(url))
  )
  silent("timeout of the body", Servers.dripping, { timeout: "50 millis" }, (client, url) =>
    Effect.flatMap(client.execute(secretive(url)), text)
  )
  silent("timeout of a streamed body", Servers.dripping, { timeout: "50 millis" }, (client, url) =>
    Effect.flatMap(client.execute(secretive(url)), ({ stream }) => Stream.runDrain(stream))
  )
  silent("reset", Servers.resetting("body"), {}, (client, url) => Effect.flatMap(client.execute(secretive(url)), text))
  silent("a redirect without an end", Servers.redirecting, { maxRedirects: 2 }, (client, url) =>
    client.execute(secretive(url))
  )
  silent(
    "a redirect to a secret place that is none",
    Servers.http((_, response) => response.writeHead(302, { location: `ftp://me:${secret}@there/${secret}` }).end()),
    {},
    (client, url) => client.execute(secretive(url))
  )
  silent("a secret in the URL's user", secrets, {}, (client, url) =>
    client.execute(secretive(url.replace("//", `//me:${secret}@`)))
  )
  silent("no URL", secrets, {}, (client) => client.execute(secretive("http://[")))
  silent("a line break in a header", secrets, {}, (client, url) =>
    client.execute(HttpClientRequest.setHeader(secretive(url), "authorization", `Bearer ${secret}\r\nx: ${secret}`))
  )
  silent("a scope of its own", Servers.dripping, { timeout: "50 millis" }, (client, url) =>
    Effect.scoped(Effect.flatMap(HttpClient.withScope(client).execute(secretive(url)), text))
  )
  silent("interrupted", Servers.silent, {}, (client, url) =>
    Effect.gen(function* () {
      const ledger = yield* Ledger.Ledger
      const fiber = yield* Effect.forkChild(client.execute(secretive(url)), { startImmediately: true })
      yield* eventually(ledger.holdings, (all) => all.some(({ kind }) => kind === "socket"))
      yield* Fiber.interrupt(fiber)
      return yield* Fiber.join(fiber)
    })
  )
})

describe("which trace a request belongs to", () => {
  const heard = Effect.gen(function* () {
    const seen: Array<ReadonlyArray<unknown>> = []
    const server = yield* Servers.http(({ headers, url }, response) => {
      seen.push([headers.traceparent !== undefined, headers.b3 !== undefined])
      const to = new URL(url ?? "/", "http://x").searchParams.get("to")
      if (to === null) response.end()
      else response.writeHead(302, { location: to }).end()
    })
    return { url: server.url, seen }
  })
  const traced = (options: Options, url: string) =>
    Effect.gen(function* () {
      const { client } = yield* ClientSession.make(options)
      yield* Effect.flatMap(client.get(url), text)
    }).pipe(Effect.scoped, Effect.withSpan("work"))

  it.live("is told to nobody by default", () =>
    Effect.gen(function* () {
      const server = yield* heard
      yield* traced({}, server.url)
      assert.deepStrictEqual(server.seen, [[false, false]])
    })
  )

  it.live("is told to the origins that are named, and on redirects to no other", () =>
    Effect.gen(function* () {
      const ours = yield* heard
      const foreign = yield* heard
      yield* traced({ traceOrigins: [ours.url] }, `${ours.url}/?to=${foreign.url}`)
      yield* traced({ traceOrigins: [ours.url] }, `${foreign.url}/?to=${ours.url}`)
      assert.deepStrictEqual(ours.seen, [
        [true, true],
        [true, true]
      ])
      assert.deepStrictEqual(foreign.seen, [
        [false, false],
        [false, false]
      ])
    })
  )
})
