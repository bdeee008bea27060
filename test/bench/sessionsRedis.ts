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
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as RedisSessionLua from "../../src/redis/internal/RedisSessionLua.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as TestRedis from "../../src/testing/TestRedis.ts"
import { contenders } from "./contenders/install.ts"
import { range } from "./measure.ts"
import { publish } from "./record.ts"
import {
  compare,
  cookieOf,
  createAll,
  dataOf,
  inFlight,
  live,
  login,
  ours,
  type Round,
  theirs
} from "./sessionLoads.ts"

const touches = 5
const lists = 5

/** Makes every session's last activity ten minutes old. */
const idle = `
${RedisSessionLua.prelude("holdfast")}
for _, key in ipairs(redis.call('KEYS', SESSION .. '*')) do
  local s = parse(redis.call('GET', key))
  s[SEEN] = text(s[SEEN] - 600000)
  write(string.sub(key, #SESSION + 1), s)
end`

export const run = async () => {
  const packages = contenders()
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const server = await within(TestRedis.make({ config: ["slowlog-log-slower-than 200", "slowlog-max-len 10000"] }))
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
  await Effect.runPromise(store.ping)
  const bare = await memory()
  const tokens = await createAll(store)
  const ourBytes = ((await memory()) - bare) / live

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
  const figures = await compare(entries, () => Promise.resolve([pid]))

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

  const listing: Array<number> = []
  const owned: Array<Record<string, string>> = []
  const timed = async (name: string, work: Effect.Effect<unknown, unknown>) => {
    await longest()
    const begun = performance.now()
    await Effect.runPromise(work)
    const millis = performance.now() - begun
    owned.push({ principal: name, ms: millis.toFixed(1), "longest script ms": (await longest()).toFixed(2) })
    return millis
  }
  for (const end of ["revokeAll", "a login that leaves room for 5"]) {
    await createAll(store, () => "crowd", live * 2)
    if (end === "revokeAll") {
      await timed("one more login", login(store, "crowd", live * 2))
      await timed("one login at the cap", login(store, "crowd", live))
      for (let round = 0; round < lists; round++) listing.push(await timed("list", store.list("crowd")))
      await timed(end, store.revokeAll("crowd"))
    } else await timed(end, login(store, "crowd", 5))
  }
  console.table(owned)
  console.table([
    { memory: "holdfast", "bytes a session": Math.round(ourBytes) },
    { memory: "connect-redis", "bytes a session": Math.round(theirBytes) }
  ])
  publish("sessionsRedis", {
    ...figures,
    "list of 10,000, ms": listing,
    "bytes to connect-redis": [ourBytes / theirBytes],
    "bytes a session": [ourBytes],
    "bytes a session, connect-redis": [theirBytes]
  })
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
