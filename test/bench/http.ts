/**
 * What a request costs its server, over HTTP, from the socket on: `npm run bench -- http`.
 *
 * Every server is a process of its own, with a database of its own; the load comes from another process. The first figure is
 * the processor time of the server's process alone, by request. The contenders take turns; figures are medians of the rounds
 * with their range, and ratios are made within each round.
 *
 * `--quick` measures the calls of Holdfast alone, in less than a minute. `--only live,session` measures these calls, or all of
 * the servers named. `HOLDFAST_BENCH_PROFILE=DIRECTORY` has each server write a profile of its processor time there.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { type Contender, contenders } from "./http/contenders.ts"
import * as Load from "./http/load.ts"
import * as Processes from "./http/processes.ts"
import { quantile, range, ratios } from "./measure.ts"
import { cpuOf } from "./serverCpu.ts"

const quickCalls = new Set([
  "node",
  "router",
  "api",
  "router-unused",
  "api-unused",
  "router-read",
  "api-read",
  "live",
  "session"
])
/** What the ratios are to. */
const base = "api"
const sessions = 1_000

interface Figures {
  readonly cpu: number
  readonly rate: number
  readonly p50: number
  readonly p99: number
  readonly statements: number
  readonly wal: number
  readonly refused: number
}

/** `--name value` of the command line. */
const option = (name: string) => {
  const at = process.argv.indexOf(`--${name}`)
  return at === -1 ? undefined : (process.argv[at + 1] ?? "")
}

export const run = async () => {
  const quick = process.argv.includes("--quick")
  const only = option("only")?.split(",")
  const wanted = (server: string, call: string) =>
    call === base ||
    (only === undefined ? !quick || quickCalls.has(call) : only.includes(call) || only.includes(server))
  const inFlights = quick ? [64] : [1, 64, 256]
  const [rounds, seconds] = quick ? [3, 1] : [7, 2]

  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  try {
    const load = await Load.make()
    await within(Effect.addFinalizer(() => Effect.sync(load.close)))
    const processes = await within(Processes.make)

    const entries: Array<{
      readonly name: string
      readonly server: Processes.Server
      readonly calls: ReadonlyArray<Load.Call>
    }> = []
    const chosen = Object.entries(contenders).filter(([name, { calls }]) =>
      Object.keys(calls).some((call) => wanted(name, call))
    )
    await Promise.all(
      chosen.map(async ([name, contender]: [string, Contender]) => {
        const server = await within(processes.launch(name, contender.start))
        const cookies = (await contender.sessions?.(server, sessions)) ?? []
        for (const [call, ask] of Object.entries(contender.calls)) {
          if (wanted(name, call)) entries.push({ name: call, server, calls: ask(cookies) })
        }
      })
    )

    for (const inFlight of inFlights) {
      const results = new Map<string, Array<Figures>>()
      for (let round = -1; round < rounds; round++) {
        for (const { calls, name, server } of entries) {
          const inPostgres = server.storeUrl.startsWith("postgres")
          const counted = () =>
            inPostgres
              ? Effect.runPromise(processes.counted(server.storeUrl))
              : Promise.resolve({ statements: 0, wal: 0 })
          const before = await counted()
          const cpu = cpuOf([server.pid])
          const seen = await load.run(server.port, calls, inFlight, seconds)
          const used = cpuOf([server.pid]) - cpu
          const after = await counted()
          if (round < 0) continue
          const figures = {
            cpu: (used * 1000) / seen.requests,
            rate: seen.requests / seen.seconds,
            p50: seen.p50,
            p99: seen.p99,
            statements: (after.statements - before.statements) / seen.requests,
            wal: (after.wal - before.wal) / seen.requests,
            refused: seen.refused + seen.broken
          }
          results.set(name, [...(results.get(name) ?? []), figures])
        }
      }
      const of = (name: string, figure: keyof Figures) => (results.get(name) ?? []).map((figures) => figures[figure])
      const median = (name: string, figure: keyof Figures, digits: number) =>
        quantile(of(name, figure), 0.5).toFixed(digits)
      console.log(`${inFlight} in flight`)
      console.table(
        Object.fromEntries(
          entries.map(({ name }) => [
            name,
            {
              "cpu µs": range(of(name, "cpu")),
              [`cpu, to ${base}`]: range(ratios(of(name, "cpu"), of(base, "cpu")), 2),
              "a second": range(of(name, "rate"), 0),
              "p50 ms": median(name, "p50", 2),
              "p99 ms": median(name, "p99", 2),
              statements: median(name, "statements", 3),
              "WAL bytes": median(name, "wal", 0),
              refused: of(name, "refused").reduce((sum, value) => sum + value, 0)
            }
          ])
        )
      )
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
