/**
 * 10,000 sessions that are logged in and active at once, over two processes of `holdfast serve` on one real PostgreSQL, or with
 * their sessions in one real Redis (`HOLDFAST_BENCH_STORE=redis`), without sticky routing: the requests of a session go to
 * both in turn.
 *
 * Each round, every session reads itself on one process, patches its data on the other and reads the data back on the first;
 * what it reads must be what it wrote. Every fifth has its token renewed every 30 seconds, and the client keeps cookies. Then
 * every tenth logs out on one process and must be refused on the other by the next request, and the others must still be
 * there. Sessions come from the library's store, because hashing 10,000 passwords would take an hour.
 *
 * The client, both processes and the server share the processors of one machine; the processor time per request is what can
 * be compared. `HOLDFAST_BENCH_SESSIONS` (default: 10,000) and `HOLDFAST_BENCH_ROUNDS` (default: 3) make it another size.
 */
import { readFileSync } from "node:fs"
import { Agent, request } from "node:http"
import { loadavg } from "node:os"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as TestRedis from "../../src/testing/TestRedis.ts"
import { cookieName } from "../support/browser.ts"
import * as Service from "../support/service.ts"
import { quantile } from "./measure.ts"
import { cpuOf } from "./serverCpu.ts"

const count = Number(process.env.HOLDFAST_BENCH_SESSIONS ?? 10_000)
const rounds = Number(process.env.HOLDFAST_BENCH_ROUNDS ?? 3)
const inRedis = process.env.HOLDFAST_BENCH_STORE === "redis"
const inFlight = 200
/** Warnings that have a reason. */
const expected = /Development over http|Tokens of ended sessions were refused/
/** Every fifth much more often than anybody would. */
const renewEveryOf = (index: number) => (index % 5 === 0 ? Duration.seconds(30) : Duration.hours(1))

interface Client {
  readonly id: string
  readonly index: number
  cookie: string
}

interface Answer {
  readonly status: number
  readonly text: string
}

/** What happened, by phase; a phase without errors has none listed. */
class Tally {
  readonly latencies: Array<number> = []
  readonly errors = new Map<string, number>()
  readonly name: string
  renewed = 0
  constructor(name: string) {
    this.name = name
  }
  wrong(what: string) {
    this.errors.set(what, (this.errors.get(what) ?? 0) + 1)
  }
}

/** Sends what a browser would over connections that are kept. */
const sender = () => {
  const agent = new Agent({ keepAlive: true, maxSockets: inFlight / 2, scheduling: "fifo" })
  const send = (tally: Tally, client: Client, url: string, method: string, path: string, json?: unknown) =>
    new Promise<Answer>((resolve) => {
      const body = json === undefined ? undefined : JSON.stringify(json)
      const headers = {
        cookie: `${cookieName(url)}=${client.cookie}`,
        ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) })
      }
      const begun = performance.now()
      const failed = (error: NodeJS.ErrnoException) => {
        tally.wrong(`${method} ${path}: ${error.code ?? error.message}`)
        resolve({ status: 0, text: "" })
      }
      const sent = request(`${url}${path}`, { agent, method, headers }, (response) => {
        let text = ""
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk))
        response.on("error", failed).on("end", () => {
          tally.latencies.push(performance.now() - begun)
          const renewed = /^holdfast-dev-\d+=([\w-]{43});/.exec(response.headers["set-cookie"]?.[0] ?? "")?.[1]
          if (renewed !== undefined) {
            client.cookie = renewed
            tally.renewed++
          }
          resolve({ status: response.statusCode ?? 0, text })
        })
      })
      sent.on("error", failed).end(body)
    })
  return { send, close: () => agent.destroy() }
}

/** So many at once, until all are done. */
const forAll = async <A>(all: ReadonlyArray<A>, work: (one: A) => Promise<void>) => {
  let next = 0
  const line = async () => {
    for (let one = all[next++]; one !== undefined; one = all[next++]) await work(one)
  }
  await Promise.all(Array.from({ length: inFlight }, line))
}

/** Resident memory in MiB, now and at most, read where the system shows it (Linux). */
const memoryOf = (pid: number) => {
  const status = readFileSync(`/proc/${pid}/status`, "utf8")
  const mib = (name: string) => Math.round(Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1]) / 1024)
  return { "RSS, MiB": mib("VmRSS"), "at most": mib("VmHWM") }
}

const program = Effect.gen(function* () {
  const { superuserUrl: url } = yield* TestPostgres.make({ settings: { shared_buffers: "128MB" } })
  const redis = inRedis ? yield* TestRedis.make() : undefined
  const env = {
    PORT: "0",
    DATABASE_URL: Redacted.value(url),
    ...(redis !== undefined && { HOLDFAST_SESSION_STORE: "redis", REDIS_URL: Redacted.value(redis.url) })
  }
  const processes = yield* Effect.forEach(["A", "B"], (name) =>
    Effect.gen(function* () {
      const program = yield* Service.launch({ args: ["serve"], env })
      const url = yield* Service.listening(program)
      yield* Service.ready(url)
      return { name, program, url }
    })
  )
  const [a = "", b = ""] = processes.map(({ url }) => url)

  const layer =
    redis === undefined ? PgSessionStore.layer({ url, maxConnections: 4 }) : RedisSessionStore.layer({ url: redis.url })
  const store = Context.get(yield* Layer.build(layer), SessionStore)
  const created = performance.now()
  const clients = yield* Effect.forEach(
    Array.from({ length: count }),
    (_, index) => {
      const token = SessionToken.make()
      const login = store.create({
        token: SessionToken.hash(token),
        principal: `user-${index}`,
        data: {},
        dataVersion: 1,
        device: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", ip: "192.0.2.7" },
        idleTimeout: Duration.minutes(30),
        absoluteTimeout: Duration.hours(12),
        renewEvery: renewEveryOf(index),
        maxPerPrincipal: 5
      })
      return Effect.map(login, ({ record }): Client => ({ id: record.id, index, cookie: Redacted.value(token) }))
    },
    { concurrency: 64 }
  )
  console.log(
    `${count} sessions in ${inRedis ? "Redis" : "PostgreSQL"} created in ${((performance.now() - created) / 1000).toFixed(1)} s`
  )

  const { close, send } = sender()
  yield* Effect.addFinalizer(() => Effect.sync(close))
  const pids = processes.map(({ program }) => program.pid)
  const rows: Array<object> = []
  const wrong = new Map<string, number>()
  const phase = (name: string, of: ReadonlyArray<Client>, work: (tally: Tally, client: Client) => Promise<void>) =>
    Effect.promise(async () => {
      const tally = new Tally(name)
      const [begun, cpu] = [performance.now(), cpuOf(pids)]
      await forAll(of, (client) => work(tally, client))
      const { errors, latencies, renewed } = tally
      const done = latencies.length
      for (const [what, times] of errors) wrong.set(`${name}: ${what}`, times)
      rows.push({
        phase: name,
        requests: done,
        errors: Array.from(errors.values()).reduce((sum, times) => sum + times, 0),
        renewed,
        "a second": Math.round((done * 1000) / (performance.now() - begun)),
        "p50 ms": quantile(latencies, 0.5).toFixed(1),
        "p99 ms": quantile(latencies, 0.99).toFixed(1),
        "max ms": quantile(latencies, 1).toFixed(1),
        "service cpu µs": Math.round(((cpuOf(pids) - cpu) * 1000) / done),
        load: loadavg()[0]?.toFixed(1)
      })
    })

  const idIs = (client: Client, { status, text }: Answer) => status === 200 && text.includes(`"id":"${client.id}"`)
  for (let round = 1; round <= rounds; round++) {
    yield* phase(`round ${round}`, clients, async (tally, client) => {
      const [here, there] = (client.index + round) % 2 === 0 ? [a, b] : [b, a]
      const told = await send(tally, client, here, "GET", "/session")
      if (!idIs(client, told)) tally.wrong(`GET /session ${told.status} ${told.text}`)
      const patched = await send(tally, client, there, "PATCH", "/session/data", {
        [`round${round}`]: client.index
      })
      if (patched.status !== 200) return tally.wrong(`PATCH ${patched.status} ${patched.text}`)
      const read = await send(tally, client, here, "GET", "/session/data")
      const written = Object.fromEntries(Array.from({ length: round }, (_, n) => [`round${n + 1}`, client.index]))
      if (read.status !== 200 || read.text !== JSON.stringify(written)) {
        tally.wrong(`not what was written: ${read.status} ${read.text}`)
      }
    })
  }
  yield* phase(
    "logout",
    clients.filter(({ index }) => index % 10 === 0),
    async (tally, client) => {
      const [here, there] = client.index % 20 === 0 ? [a, b] : [b, a]
      const { cookie } = client
      const left = await send(tally, client, here, "POST", "/logout")
      if (left.status !== 204) return tally.wrong(`POST /logout ${left.status} ${left.text}`)
      const refused = await send(tally, { ...client, cookie }, there, "GET", "/session")
      if (refused.status !== 401 || !refused.text.includes('"SessionRevoked"')) {
        tally.wrong(`not refused: ${refused.status} ${refused.text}`)
      }
    }
  )
  yield* phase(
    "who is left",
    clients.filter(({ index }) => index % 10 !== 0),
    async (tally, client) => {
      const told = await send(tally, client, client.index % 2 === 0 ? a : b, "GET", "/session")
      if (!idIs(client, told)) tally.wrong(`GET /session ${told.status} ${told.text}`)
    }
  )
  console.table(rows)
  console.table(processes.map(({ name, program }) => ({ process: name, ...memoryOf(program.pid) })))
  for (const { name, program } of processes) {
    const said = program.lines().filter((line) => /warn|error|fatal/i.test(line) && !expected.test(line))
    if (said.length > 0 || program.stderr() !== "") console.log(`${name} said:`, said.slice(0, 5), program.stderr())
  }
  if (wrong.size > 0) {
    return yield* Effect.die(new Error(`Errors: ${JSON.stringify(Array.from(wrong).slice(0, 20), null, 1)}`))
  }
}).pipe(Effect.scoped)

export const run = () => Effect.runPromise(program)
