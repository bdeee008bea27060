/**
 * Loads of sessions as the benchmarks of stores make them: 256 in flight, each of one of 10,000 live sessions at random, with
 * a look at whether the answer is that session.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { NewSession, SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import { range, ratios, takeTurns } from "./measure.ts"
import { cpuOf } from "./serverCpu.ts"

export const live = 10_000
export const inFlight = 256
const roundMillis = 800
const rounds = 7

/** Of the size that a shop's session has. */
export const dataOf = (index: number) => ({
  index,
  locale: "de-CH",
  cart: [1, 2, 3].map((n) => ({ sku: `A-${index}-${n}`, quantity: n, price: 1990 + n }))
})

const indexOf = (data: unknown) => (typeof data === "object" && data !== null && "index" in data ? data.index : data)

const random = () => Math.floor(Math.random() * live)

const wrong = (index: number, got: unknown) => new Error(`Asked for session ${index}, got ${JSON.stringify(got)}`)

/** Requests one after another until the time is up, as many at once as asked for; tells how many there were. */
export type Round = (until: number) => Promise<number>

/** The session of a number. */
const newSession = (index: number, principal: string, maxPerPrincipal: number): NewSession => ({
  token: SessionToken.hash(SessionToken.make()),
  principal,
  data: dataOf(index),
  dataVersion: 1,
  device: { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101", ip: "192.0.2.7" },
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal
})

/** A login of a principal who may have so many sessions. */
export const login = (store: SessionStore["Service"], principal: string, maxPerPrincipal: number, index = 0) => {
  const session = newSession(index, principal, maxPerPrincipal)
  return Effect.as(store.create(session), session.token)
}

/** Makes all live sessions and tells their tokens. */
export const createAll = (
  store: SessionStore["Service"],
  principalOf = (index: number) => `user-${index}`,
  maxPerPrincipal = 5
) =>
  Effect.runPromise(
    Effect.forEach(
      Array.from({ length: live }),
      (_, index) => login(store, principalOf(index), maxPerPrincipal, index),
      { concurrency: inFlight }
    )
  )

const maxAge = 1_800_000

/** A cookie as `express-session` gives it to a store. */
export const cookieOf = () => ({
  originalMaxAge: maxAge,
  expires: new Date(Date.now() + maxAge),
  httpOnly: true,
  path: "/"
})

/** Holdfast's load, which is load and touch in one. */
export const ours =
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

/** What anybody else fetches. */
export const theirs =
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

/** Has the contenders take turns, and prints how they did; `pidsOf` tells the server's processes that work for one. */
export const compare = async (
  entries: Readonly<Record<string, Round>>,
  pidsOf: (name: string) => Promise<ReadonlyArray<number>>
) => {
  const measured = (name: string, round: Round) => async () => {
    const pids = await pidsOf(name)
    const [cpu, before, begun] = [process.cpuUsage(), cpuOf(pids), performance.now()]
    const done = await round(begun + roundMillis)
    const { system, user } = process.cpuUsage(cpu)
    const seconds = (performance.now() - begun) / 1000
    return { rate: done / seconds, client: (system + user) / done, server: ((cpuOf(pids) - before) * 1000) / done }
  }
  const results = await takeTurns(
    Object.fromEntries(Object.entries(entries).map(([name, round]) => [name, measured(name, round)])),
    rounds,
    2
  )
  const rates = (name: string) => (results.get(name) ?? []).map(({ rate }) => rate)
  const figures: Record<string, ReadonlyArray<number>> = {}
  for (const name of results.keys()) {
    figures[`${name}: loads a second`] = rates(name)
    figures[`holdfast to ${name}`] = ratios(rates("holdfast"), rates(name))
    figures[`unseen to ${name}`] = ratios(rates("holdfast, nothing remembered"), rates(name))
  }
  console.table(
    Array.from(results, ([name, values]) => ({
      load: name,
      "a second": range(rates(name), 0),
      "client cpu µs": range(values.map(({ client }) => client)),
      "server cpu µs": range(values.map(({ server }) => server)),
      "holdfast is": `${range(ratios(rates("holdfast"), rates(name)))} ×`,
      "nothing remembered": `${range(ratios(rates("holdfast, nothing remembered"), rates(name)))} ×`
    }))
  )
  return figures
}
