/**
 * What it costs to encrypt the data of sessions: the same loads and changes over stores with and without keys, on PostgreSQL and
 * on Redis, each on one real server on the loopback address with 256 requests in flight.
 *
 * - *load*: one of 10,000 live sessions, at random, as the store does it, and by a store that remembers none, so that each load
 *   decrypts.
 * - *change*: new data for one of them, which encrypts and decrypts.
 * - *sealed*: what one processor does without a store.
 *
 * The server shares the processors with the client, so only ratios mean something. Processor time is the client's.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import * as SessionCipher from "../../src/session/SessionCipher.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import type { TokenHash } from "../../src/session/SessionToken.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as TestRedis from "../../src/testing/TestRedis.ts"
import { range, ratios, takeTurns } from "./measure.ts"
import { createAll, dataOf, inFlight, ours } from "./sessionLoads.ts"

const roundMillis = 800
const rounds = 7
const keys: ReadonlyArray<SessionCipher.Key> = [{ id: "k1", secret: Redacted.make(randomBytes(32).toString("base64")) }]

type Store = SessionStore["Service"]
interface Options {
  readonly keys: ReadonlyArray<SessionCipher.Key>
  readonly rememberedBytes?: number
}

/** Changes for as long as the time lasts: one fiber for each of the first sessions. */
const changes = async (store: Store, tokens: ReadonlyArray<TokenHash>) => {
  const records = await Effect.runPromise(
    Effect.forEach(tokens.slice(0, inFlight), store.load, { concurrency: inFlight })
  )
  const versions = records.map(({ version }) => version)
  return async (until: number) => {
    let done = 0
    const line = (index: number) =>
      Effect.whileLoop({
        while: () => performance.now() <= until,
        body: () =>
          store.update({
            id: records[index]?.id as (typeof records)[number]["id"],
            version: versions[index] ?? 0,
            data: dataOf(index),
            dataVersion: 1
          }),
        step: ({ version }) => {
          versions[index] = version
          done++
        }
      })
    await Effect.runPromise(Effect.forEach(versions.keys(), line, { concurrency: "unbounded", discard: true }))
    return done
  }
}

const compare = async (name: string, open: (options: Options) => Promise<Store>) => {
  const entries: Record<string, () => Promise<{ readonly rate: number; readonly cpu: number }>> = {}
  for (const [kind, own] of [
    ["plain", []],
    ["encrypted", keys]
  ] as const) {
    const store = await open({ keys: own })
    const tokens = await createAll(store, (index) => `${kind}-${index}`)
    const forgetful = await open({ keys: own, rememberedBytes: 0 })
    const change = await changes(store, tokens)
    const rate = (round: (until: number) => Promise<number>) => async () => {
      const [begun, before] = [performance.now(), process.cpuUsage()]
      const done = await round(begun + roundMillis)
      const { system, user } = process.cpuUsage(before)
      return { rate: (done * 1000) / (performance.now() - begun), cpu: (system + user) / done }
    }
    entries[`load ${kind}`] = rate(ours(store, tokens))
    entries[`load, nothing remembered ${kind}`] = rate(ours(forgetful, tokens))
    entries[`change ${kind}`] = rate(change)
  }
  const results = await takeTurns(entries, rounds, 2)
  const ratesOf = (entry: string) => (results.get(entry) ?? []).map(({ rate }) => rate)
  const cpuOf = (entry: string) => (results.get(entry) ?? []).map(({ cpu }) => cpu)
  console.table(
    ["load", "load, nothing remembered", "change"].map((what) => ({
      [name]: what,
      "plain a second": range(ratesOf(`${what} plain`), 0),
      "encrypted a second": range(ratesOf(`${what} encrypted`), 0),
      "encrypted is": `${range(ratios(ratesOf(`${what} encrypted`), ratesOf(`${what} plain`)), 2)} ×`,
      "plain cpu µs": range(cpuOf(`${what} plain`)),
      "encrypted cpu µs": range(cpuOf(`${what} encrypted`))
    }))
  )
}

const alone = async () => {
  const cipher = await Effect.runPromise(SessionCipher.make(keys))
  const timed = (work: () => unknown) => {
    const times: Array<number> = []
    for (let round = 0; round < rounds + 2; round++) {
      const before = process.cpuUsage()
      for (let n = 0; n < 5_000; n++) work()
      const { system, user } = process.cpuUsage(before)
      if (round >= 2) times.push((system + user) / 5_000)
    }
    return range(times)
  }
  const rows = [200, 2_000, 20_000].map((bytes) => {
    const json = JSON.stringify("x".repeat(bytes))
    const sealed = cipher.seal("s_1", json)
    return {
      sealed: `${bytes} bytes`,
      "seal cpu µs": timed(() => cipher.seal("s_1", json)),
      "open cpu µs": timed(() => Result.getOrThrow(cipher.open("s_1", sealed)))
    }
  })
  console.table(rows)
}

export const run = async () => {
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const built = (layer: Layer.Layer<SessionStore>) =>
    within(Effect.map(Layer.build(Layer.fresh(layer)), (context) => Context.get(context, SessionStore)))

  await alone()
  const { superuserUrl: url } = await within(TestPostgres.make())
  await Effect.runPromise(PgSessionStore.migrate({ url }))
  await compare("PostgreSQL", (options) =>
    built(PgSessionStore.layer({ url, operationTimeout: "30 seconds", ...options }))
  )
  const redis = await within(TestRedis.make())
  await compare("Redis", (options) =>
    built(RedisSessionStore.layer({ url: redis.url, operationTimeout: "30 seconds", ...options }))
  )
  await Effect.runPromise(Scope.close(scope, Exit.void))
}
