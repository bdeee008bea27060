/** The rounds of `npm run bench -- http`: the contenders take turns under the same load. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { quantile, range, ratios } from "../measure.ts"
import { cpuOf } from "../serverCpu.ts"
import type { Call, make as makeLoad } from "./load.ts"
import type * as OpenLoop from "./openLoop.ts"
import type { make as makeProcesses, Server } from "./processes.ts"

/** A call of a server that runs. */
export interface Entry {
  readonly name: string
  readonly server: Server
  readonly calls: ReadonlyArray<Call>
  /** More in flight are not asked of it. */
  readonly most: number
}

/** By request, but for the rate, the percentiles in milliseconds, and how many were refused. */
export interface Figures {
  readonly cpu: number
  readonly rate: number
  readonly p50: number
  readonly p99: number
  readonly statements: number
  readonly wal: number
  readonly refused: number
}

export type Results = ReadonlyMap<string, ReadonlyArray<Figures>>

/** What the ratios are to. */
export const base = "api"

export interface Loads {
  readonly load: Awaited<ReturnType<typeof makeLoad>>
  readonly processes: Effect.Success<typeof makeProcesses>
  readonly rounds: number
  readonly seconds: number
}

/** A closed loop; the first round is for nothing. */
export const closed = async (
  { load, processes, rounds, seconds }: Loads,
  all: ReadonlyArray<Entry>,
  inFlight: number
) => {
  const entries = all.filter(({ most }) => inFlight <= most)
  const results = new Map<string, Array<Figures>>(entries.map(({ name }) => [name, []]))
  const counted = ({ storeUrl }: Server) => Effect.runPromise(processes.counted(storeUrl))
  for (let round = -1; round < rounds; round++) {
    // A compiler that learns while the server runs needs tens of thousands of requests.
    const length = round < 0 ? 4 * seconds : seconds
    for (const { calls, name, server } of entries) {
      const [before, cpu] = [await counted(server), cpuOf([server.pid])]
      const seen = await load.run(server.port, calls, inFlight, length)
      const used = cpuOf([server.pid]) - cpu
      const after = await counted(server)
      if (round < 0) continue
      results.get(name)?.push({
        cpu: (used * 1000) / seen.requests,
        rate: seen.requests / seen.seconds,
        p50: seen.p50,
        p99: seen.p99,
        statements: (after.statements - before.statements) / seen.requests,
        wal: (after.wal - before.wal) / seen.requests,
        refused: seen.refused + seen.broken
      })
    }
  }
  return results
}

export const of = (results: Results, name: string, figure: keyof Figures) =>
  (results.get(name) ?? []).map((figures) => figures[figure])

export const print = (results: Results, inFlight: number) => {
  const median = (name: string, figure: keyof Figures, digits: number) =>
    quantile(of(results, name, figure), 0.5).toFixed(digits)
  console.log(`${inFlight} in flight`)
  console.table(
    Object.fromEntries(
      Array.from(results.keys(), (name) => [
        name,
        {
          "cpu µs": range(of(results, name, "cpu")),
          [`cpu, to ${base}`]: range(ratios(of(results, name, "cpu"), of(results, base, "cpu")), 2),
          "a second": range(of(results, name, "rate"), 0),
          "p50 ms": median(name, "p50", 2),
          "p99 ms": median(name, "p99", 2),
          commands: median(name, "statements", 3),
          "WAL bytes": median(name, "wal", 0),
          refused: of(results, name, "refused").reduce((sum, value) => sum + value, 0)
        }
      ])
    )
  )
}

/** Which calls are to which: by their processor time, or by how many are served. */
const pairs = [
  ["api-unused", "api", "cpu"],
  ["router-unused", "router", "cpu"],
  ["api-read", "api", "cpu"],
  ["api-stale", "api", "cpu"],
  ["router-read", "router", "cpu"],
  ["live", "api", "cpu"],
  ["session", "api", "cpu"],
  ...["express", "fastify", "express-redis", "fastify-redis"].flatMap((peer) => {
    const redis = peer.endsWith("-redis") ? "-redis" : ""
    return [
      [`session${redis}`, `${peer}-read`, "rate"] as const,
      ...["read", "write", "login"].map((call) => [`api${redis}-${call}`, `${peer}-${call}`, "rate"] as const)
    ]
  })
] as const

/** The figures with their names, and those ratios whose calls both ran. */
export const figures = (results: Results, inFlight: number) => {
  const all: Record<string, ReadonlyArray<number>> = {}
  for (const name of results.keys()) {
    for (const figure of ["cpu", "rate", "p50", "p99", "statements", "wal", "refused"] as const) {
      all[`${name}, ${inFlight}: ${figure}`] = of(results, name, figure)
    }
  }
  for (const [name, other, figure] of pairs) {
    all[`${name} to ${other}, ${inFlight}: ${figure}`] = ratios(of(results, name, figure), of(results, other, figure))
  }
  return all
}

/** An open loop at the same rate for all, from a process of its own that looks at each answer. */
export const open = (all: ReadonlyArray<Entry>, expected: (entry: Entry) => ReadonlyArray<string>, seconds: number) => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-bench-"))
  const file = join(directory, "task.json")
  const rate = 1_000
  const rows = all.map((entry) => {
    const { calls, name, server } = entry
    const task: OpenLoop.Task = { port: server.port, calls, expected: expected(entry), rate, seconds }
    writeFileSync(file, JSON.stringify(task))
    const before = cpuOf([server.pid])
    const run = spawnSync(process.execPath, [join(import.meta.dirname, "openLoop.ts"), file], { encoding: "utf8" })
    if (run.status !== 0) throw new Error(`The open loop failed: ${run.stderr}`)
    const seen = JSON.parse(run.stdout) as OpenLoop.Seen
    return [name, { cpu: ((cpuOf([server.pid]) - before) * 1000) / seen.requests, ...seen }] as const
  })
  rmSync(directory, { recursive: true })
  console.log(`open loop, ${rate} requests a second`)
  console.table(Object.fromEntries(rows))
  return new Map(rows)
}
