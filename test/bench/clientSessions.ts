/**
 * What a request of a client session costs: processor time of this process per request, with its body read, against plain undici
 * and Effect's own client over undici, in one run and in turns. The server is a process of its own that answers 200 and a hundred
 * bytes; each contender keeps 32 requests in flight. Nothing is said about latency, large bodies or TLS.
 *
 * Where the fiber has a scope, Effect watches each request for the end of it (`HttpClient.withScope`), which costs more.
 *
 * The bound is 1.25 times plain `undici.request` for a `pooled` session. `HOLDFAST_BENCH_REQUESTS` (default: 15,000) is per round.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Agent, request } from "@effect/platform-node/Undici"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as ClientSession from "../../src/client/ClientSession.ts"
import { range, ratios, takeTurns } from "./measure.ts"

const requests = Number(process.env.HOLDFAST_BENCH_REQUESTS ?? 15_000)
const rounds = 7
const inFlight = 32
const bound = 1.25

const serverProgram = `
  const body = Buffer.alloc(100, "x")
  const server = require("node:http").createServer((_, response) => response.end(body))
  server.listen(0, "127.0.0.1", () => console.log(server.address().port))
`

/** Microseconds of processor time per request. */
const measured = async (work: () => Promise<unknown>): Promise<number> => {
  const before = process.cpuUsage()
  await work()
  const { system, user } = process.cpuUsage(before)
  return (system + user) / requests
}

const through = (
  runtime: ManagedRuntime.ManagedRuntime<HttpClient.HttpClient, unknown>,
  url: string,
  within: (work: Effect.Effect<void, HttpClientError, HttpClient.HttpClient>) => typeof work = (work) => work
) => {
  const all = Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    let left = requests
    const one = Effect.flatMap(client.get(url), ({ text }) => text)
    const worker = Effect.whileLoop({ while: () => left-- > 0, body: () => one, step: () => undefined })
    yield* Effect.all(
      Array.from({ length: inFlight }, () => worker),
      { concurrency: "unbounded", discard: true }
    )
  })
  return () => measured(() => runtime.runPromise(within(all)))
}

const plain = (agent: Agent, url: string) => async () => {
  let left = requests
  const worker = async () => {
    while (left-- > 0) await (await request(url, { dispatcher: agent })).body.text()
  }
  return measured(() => Promise.all(Array.from({ length: inFlight }, worker)))
}

export const run = async (): Promise<void> => {
  const server = spawn(process.execPath, ["-e", serverProgram], { stdio: ["ignore", "pipe", "inherit"] })
  const [port] = await once(createInterface(server.stdout), "line")
  const url = `http://127.0.0.1:${String(port)}`
  const agent = new Agent({ connections: 64 })
  const pooled = ManagedRuntime.make(ClientSession.layer())
  const shared = ManagedRuntime.make(ClientSession.layer({ reuse: "shared" }))
  const stock = ManagedRuntime.make(NodeHttpClient.layerUndici)
  try {
    const results = await takeTurns(
      {
        "plain undici.request": plain(agent, url),
        "client session, pooled": through(pooled, url),
        "pooled, within a scope": through(pooled, url, Effect.scoped),
        "client session, shared": through(shared, url),
        "Effect's client over undici": through(stock, url)
      },
      rounds
    )
    const base = results.get("plain undici.request") ?? []
    for (const [name, values] of results) {
      console.log(`${name.padEnd(28)} ${range(values)} µs/request, ${range(ratios(values, base), 2)} × plain`)
    }
    console.log(`The bound of a pooled session is ${bound} × plain.`)
  } finally {
    await Promise.all([pooled.dispose(), shared.dispose(), stock.dispose(), agent.destroy()])
    server.kill()
  }
}
