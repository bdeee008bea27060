/**
 * What a request pays for its session in Redis, against connect-redis and against a bare GET: one real server on the loopback
 * address with its log on (`appendonly yes`, not synced), one connection and 256 requests in flight for each.
 *
 * - *load*: one of 10,000 live sessions, at random. Holdfast's `load` is load and touch in one; connect-redis's `get` is
 *   followed by its `touch`, an EXPIRE, as `express-session` does for every request. The GET fetches the same text and writes
 *   nothing.
 * - *touch*: all 10,000 sessions, each of them due.
 * - *principal*: what the server is at, and nothing else meanwhile, for a principal with 10,000 sessions.
 * - *memory*: what the server holds for a session of each, by its `used_memory`.
 *
 * The server shares the processors with the client, so only ratios mean something.
 */
import { randomBytes } from "node:crypto"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as RedisSessionStore from "../../src/session/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import * as RedisServer from "../../src/testing/RedisServer.ts"
import { contenders } from "./contenders/install.ts"
import { range, ratios, takeTurns } from "./measure.ts"
import { cpuOf } from "./serverCpu.ts"

const live = 10_000
const inFlight = 256
const roundMillis = 800
const rounds = 7
const touches = 5

/** Of the size that a shop's session has. */
const dataOf = (index: number) => ({
  index,
  locale: "de-CH",
  cart: [1, 2, 3].map((n) => ({ sku: `A-${index}-${n}`, quantity: n, price: 1990 + n }))
})

const indexOf = (data: unknown) => (typeof data === "object" && data !== null && "index" in data ? data.index : data)

const random = () => Math.floor(Math.random() * live)

const wrong = (index: number, got: unknown) => new Error(`Asked for session ${index}, got ${JSON.stringify(got)}`)

/** Requests one after another until the time is up, as many at once as asked for; tells how many there were. */
type Round = (until: number) => Promise<number>

const ours =
  (store: SessionStore["Service"], tokens: ReadonlyArray<SessionToken.TokenHash>): Round =>
  (until) => {
    let done = 0
    const one = Effect.suspend(() => {
      const index = random()
      return Effect.flatMap(store.load(tokens[index] as SessionToken.TokenHash), ({ data }) => {
        done++
        return indexOf(data) === index ? Effect.void : Effect.die(wrong(index, data))
      })
    })
    const line = Effect.whileLoop({ while: () => performance.now() <= until, body: () => one, step: () => {} })
    const lines = Effect.all(
      Array.from({ length: inFlight }, () => line),
      { concurrency: "unbounded", discard: true }
    )
    return Effect.runPromise(Effect.as(lines, 0)).then(() => done)
  }

const theirs =
  (fetch: (index: number) => Promise<unknown>): Round =>
  async (until) => {
    let done = 0
    const line = async () => {
      while (performance.now() <= until) {
        const index = random()
        const data = await fetch(index)
        if (indexOf(data) !== index) throw wrong(index, data)
        done++
      }
    }
    await Promise.all(Array.from({ length: inFlight }, line))
    return done
  }

/** Makes every session's last activity ten minutes old. */
const idle = `
for _, key in ipairs(redis.call('KEYS', 'holdfast:session:*')) do
  redis.call('HSET', key, 'lastSeenAt', string.format('%.0f', redis.call('HGET', key, 'lastSeenAt') - 600000))
  redis.call('HINCRBY', key, 'stamp', 1)
end`

export const run = async () => {
  const packages = contenders()
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const server = await within(RedisServer.make({ config: ["slowlog-log-slower-than 200", "slowlog-max-len 10000"] }))
  const { url } = server
  const open = async (name: string) => {
    const client = packages.redis.createClient({ url: Redacted.value(url), name })
    await client.connect()
    await within(Effect.addFinalizer(() => Effect.sync(() => client.destroy())))
    return client
  }
  const admin = await open("admin")
  const memory = async () => Number(/used_memory:(\d+)/.exec(String(await admin.sendCommand(["INFO", "memory"])))?.[1])

  const openStore = (rememberedBytes?: number) =>
    within(
      Effect.map(Layer.build(Layer.fresh(RedisSessionStore.layer({ url, rememberedBytes }))), (context) =>
        Context.get(context, SessionStore)
      )
    )
  const store = await openStore()
  const forgetful = await openStore(0)
  const newSession = (index: number, principal: string, token: SessionToken.TokenHash, maxPerPrincipal: number) => ({
    token,
    principal,
    data: dataOf(index),
    dataVersion: 1,
    device: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", ip: "192.0.2.7" },
    idleTimeout: Duration.minutes(30),
    absoluteTimeout: Duration.hours(12),
    renewEvery: Duration.hours(1),
    maxPerPrincipal
  })
  const createAll = (principalOf: (index: number) => string, maxPerPrincipal: number) =>
    Effect.runPromise(
      Effect.forEach(
        Array.from({ length: live }),
        (_, index) => {
          const token = SessionToken.hash(SessionToken.make())
          return Effect.as(store.create(newSession(index, principalOf(index), token, maxPerPrincipal)), token)
        },
        { concurrency: inFlight }
      )
    )
  await Effect.runPromise(store.ping)
  const bare = await memory()
  const tokens = await createAll((index) => `user-${index}`, 5)
  const ourBytes = ((await memory()) - bare) / live

  const maxAge = 1_800_000
  const cookieOf = () => ({ originalMaxAge: maxAge, expires: new Date(Date.now() + maxAge), httpOnly: true, path: "/" })
  const ids = Array.from({ length: live }, () => randomBytes(24).toString("base64url"))
  const idOf = (index: number) => ids[index] ?? ""
  const connect = new packages.connectRedis({ client: await open("connect-redis"), prefix: "sess:" })
  const between = await memory()
  await Promise.all(ids.map((id, index) => connect.set(id, { cookie: cookieOf(), ...dataOf(index) })))
  const theirBytes = ((await memory()) - between) / live

  const redis = await open("redis")
  const entries: Readonly<Record<string, Round>> = {
    holdfast: ours(store, tokens),
    "holdfast, nothing remembered": ours(forgetful, tokens),
    "connect-redis": theirs(async (index) => {
      const found = await connect.get(idOf(index))
      await connect.touch(idOf(index), { cookie: cookieOf() })
      return found
    }),
    "redis, get alone": theirs(async (index) => JSON.parse((await redis.get(`sess:${idOf(index)}`)) ?? "null"))
  }
  const pid = await Effect.runPromise(server.pid)
  const measured = (round: Round) => async () => {
    const [cpu, before, begun] = [process.cpuUsage(), cpuOf([pid]), performance.now()]
    const done = await round(begun + roundMillis)
    const { system, user } = process.cpuUsage(cpu)
    const seconds = (performance.now() - begun) / 1000
    return {
      rate: done / seconds,
      client: (system + user) / done,
      server: ((cpuOf([pid]) - before) * 1000) / done
    }
  }
  const results = await takeTurns(
    Object.fromEntries(Object.entries(entries).map(([name, round]) => [name, measured(round)])),
    rounds,
    2
  )
  const rates = (name: string) => (results.get(name) ?? []).map(({ rate }) => rate)
  console.table(
    Array.from(results, ([name, values]) => ({
      load: name,
      "a second": range(rates(name), 0),
      "client cpu µs": range(values.map(({ client }) => client)),
      "server cpu µs": range(values.map(({ server }) => server)),
      "holdfast is": `${range(ratios(rates("holdfast"), rates(name)))} ×`
    }))
  )

  /** The longest that the server was at one script since the last time, in milliseconds. */
  const longest = async () => {
    const log = await admin.sendCommand(["SLOWLOG", "GET", "-1"])
    await admin.sendCommand(["SLOWLOG", "RESET"])
    const times = (Array.isArray(log) ? log : []).flatMap((entry: ReadonlyArray<unknown>) =>
      Array.isArray(entry[3]) && String(entry[3][0]).startsWith("EVAL") ? [Number(entry[2])] : []
    )
    return Math.max(0, ...times) / 1000
  }
  await longest()
  const touching: Array<number> = []
  const worst: Array<number> = []
  for (let round = 0; round < touches; round++) {
    await admin.sendCommand(["EVAL", idle, "0"])
    await longest()
    const begun = performance.now()
    await Effect.runPromise(Effect.forEach(tokens, store.load, { concurrency: inFlight, discard: true }))
    touching.push((live * 1000) / (performance.now() - begun))
    worst.push(await longest())
  }
  console.table([{ touch: "holdfast", "a second": range(touching, 0), "longest script ms": range(worst, 2) }])

  const owned: Array<Record<string, string>> = []
  const timed = async (name: string, work: Effect.Effect<unknown, unknown>) => {
    await longest()
    const begun = performance.now()
    await Effect.runPromise(work)
    const millis = performance.now() - begun
    owned.push({ principal: name, ms: millis.toFixed(1), "longest script ms": (await longest()).toFixed(2) })
  }
  const token = () => SessionToken.hash(SessionToken.make())
  for (const end of ["revokeAll", "a login that leaves room for 5"]) {
    await createAll(() => "crowd", live * 2)
    if (end === "revokeAll") {
      await timed("one more login", store.create(newSession(0, "crowd", token(), live * 2)))
      await timed("one login at the cap", store.create(newSession(0, "crowd", token(), live)))
      await timed("list", store.list("crowd"))
      await timed(end, store.revokeAll("crowd"))
    } else await timed(end, store.create(newSession(0, "crowd", token(), 5)))
  }
  console.table(owned)
  console.table([
    { memory: "holdfast", "bytes a session": Math.round(ourBytes) },
    { memory: "connect-redis", "bytes a session": Math.round(theirBytes) }
  ])
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
