/**
 * What a request costs its server, over HTTP, from the socket on: `npm run bench -- http`.
 *
 * Every server is a process of its own, with a database of its own; the load comes from another process. The first figure is
 * the processor time of the server's process alone, by request. The contenders take turns; figures are medians of the rounds
 * with their range, and ratios are made within each round. *Commands* are statements of PostgreSQL, or commands of Redis, those
 * that a script runs included.
 *
 * `--quick` measures the calls of Holdfast alone, in less than a minute. `--only live,session` measures these calls, or all of
 * the servers named. What is measured without `--quick` is written down, see `record.ts`. `--in-flight 64` is that load alone. `--counters` counts mistakes and measures nothing.
 * `HOLDFAST_BENCH_PROFILE=DIRECTORY` has each server write a profile of its processor time there.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { type Contender, contenders } from "./http/contenders.ts"
import { install } from "./contenders/install.ts"
import * as Counters from "./http/counters.ts"
import * as Load from "./http/load.ts"
import * as Processes from "./http/processes.ts"
import * as Rounds from "./http/rounds.ts"
import { publish } from "./record.ts"

const quickCalls = new Set([
  "node",
  "router",
  "api",
  "router-unused",
  "api-unused",
  "router-read",
  "api-read",
  "api-stale",
  "live",
  "session"
])
const users = Array.from({ length: 1_000 }, (_, index) => `user-${index}`)

const has = (name: string) => process.argv.includes(`--${name}`)

/** `--name value,value` of the command line. */
const option = (name: string) => {
  const at = process.argv.indexOf(`--${name}`)
  return at === -1 ? undefined : (process.argv[at + 1] ?? "").split(",")
}

export const run = async () => {
  const quick = has("quick")
  const only = option("only")
  const isWanted = (server: string, call: string) =>
    call === Rounds.base ||
    (only === undefined ? !quick || quickCalls.has(call) : only.includes(call) || only.includes(server))
  const inFlights = option("in-flight")?.map(Number) ?? (quick ? [64] : [1, 64, 256])
  const partial = quick || has("in-flight")
  const rounds = quick ? 3 : 7

  install()
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  try {
    const load = await Load.make()
    await within(Effect.addFinalizer(() => Effect.sync(load.close)))
    const processes = await within(Processes.make)
    const chosen = Object.entries(contenders).filter(([name, { calls }]) =>
      Object.keys(calls).some((call) => isWanted(name, call))
    )

    if (!has("counters")) {
      const entries: Array<Rounds.Entry> = []
      const begin = async ([name, { calls, most, sessions, start }]: [string, Contender]) => {
        const server = await within(processes.launch(name, start))
        const cookies = (await sessions?.(server, users)) ?? []
        for (const [call, ask] of Object.entries(calls)) {
          if (isWanted(name, call)) {
            entries.push({ name: call, server, calls: ask(cookies), most: most?.[call] ?? Infinity })
          }
        }
      }
      await Promise.all(chosen.map(begin))
      for (const inFlight of inFlights) {
        const results = await Rounds.closed({ load, processes, rounds, seconds: 1 }, entries, inFlight)
        Rounds.print(results, inFlight)
        if (!quick) publish("http", Rounds.figures(results, inFlight), true)
      }
      if (!partial) {
        // The name of the user, where the answer tells it.
        const tells = ({ name }: Rounds.Entry) => /(-read|^session)/.test(name)
        const seen = Rounds.open(
          entries.filter(({ name }) => !/login/.test(name)),
          (entry) =>
            entry.calls.map((_, index) => (tells(entry) ? `"principal":"${users[index % users.length]}"` : "")),
          4
        )
        const open = Array.from(seen, ([name, { cpu, p50, p99, wrongPrincipal }]) => [
          [`${name}, open: cpu`, [cpu]],
          [`${name}, open: p50`, [p50]],
          [`${name}, open: p99`, [p99]],
          [`${name}, open: wrong principal`, [wrongPrincipal]]
        ])
        publish("http", Object.fromEntries(open.flat()), true)
      }
    }

    if (!partial || has("counters")) {
      const rows: Record<string, Counters.Counts & { readonly expired: number }> = {}
      for (const [name, { checks, sessions, start }] of chosen) {
        if (checks === undefined || sessions === undefined) continue
        const counting = Effect.gen(function* () {
          const server = yield* processes.launch(name, start)
          const brief = yield* processes.launch(name, start, { BENCH_IDLE_MILLIS: `${Counters.idleMillis}` })
          return yield* Effect.promise(async () => ({
            ...(await Counters.count(server.port, checks, (principals) => sessions(server, principals))),
            expired: await Counters.expired(brief.port, checks, (principals) =>
              sessions(brief, principals, Counters.idleMillis)
            )
          }))
        })
        rows[name] = await Effect.runPromise(Effect.scoped(counting))
      }
      console.log("mistakes, by count")
      console.table(rows)
      const counts = Object.entries(rows).flatMap(([name, counts]) =>
        Object.entries(counts).map(([what, count]) => [`${name}: ${what}`, [count]])
      )
      publish("http", Object.fromEntries(counts), true)
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
