/**
 * The service on two engines at once, PostgreSQL and MariaDB: how long queries on one of them take before the other one is stopped
 * (SIGSTOP, all of its processes), while it stands still and is asked all the time, and when it goes on again. Both ways.
 *
 * From the submission until the outcome is seen, by eight clients that each ask again and again; `HOLDFAST_BENCH_QUERIES` (default:
 * 2,000) says how many queries each time. The service's own tables are on a server of their own. Clients, service and servers share
 * the processors of one machine.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as MariaDb from "../support/mariadb.ts"
import { serve } from "./functionServices.ts"
import { login, type User } from "./isolationWorld.ts"
import { quantile } from "./measure.ts"

const queries = Number(process.env.HOLDFAST_BENCH_QUERIES ?? 2000)
const clients = 8

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

interface Engine {
  readonly name: string
  readonly slow: string
  readonly signal: (name: NodeJS.Signals) => Promise<void>
}

/** A server's processes: the first one, and those that it made. */
const processesOf = (directory: string): ReadonlyArray<number> => {
  const first = Number(readFileSync(join(directory, "data/postmaster.pid"), "utf8").split("\n")[0])
  const children = readdirSync("/proc").filter((name) => {
    try {
      return (
        /^\d+$/.test(name) && readFileSync(`/proc/${name}/stat`, "utf8").split(") ")[1]?.split(" ")[1] === String(first)
      )
    } catch {
      return false
    }
  })
  return [first, ...children.map(Number)]
}

const terminal = new Set(["Succeeded", "Failed", "Canceled"])

/** Runs a query, and answers in which state it ended; looks at it again after so many milliseconds. */
const execute = async ({ send }: User, engine: string, sql: string, every = 0): Promise<string> => {
  const submitted = await send("POST", "/queries", { sql, engine })
  if (submitted.status !== 202) return `refused with ${submitted.status}`
  const { id } = submitted.json as { readonly id: string }
  for (;;) {
    const { json } = await send("GET", `/queries/${id}`)
    const { state } = json as { readonly state: string }
    if (terminal.has(state)) return state
    if (every > 0) await pause(every)
  }
}

/** How long queries take, in milliseconds, and how many of them did not succeed. */
const measure = async (user: User, engine: string, count = queries) => {
  const times: Array<number> = []
  let failed = 0
  let left = count
  const client = async () => {
    while (left-- > 0) {
      const begun = performance.now()
      const state = await execute(user, engine, "select 1")
      times.push(performance.now() - begun)
      if (state !== "Succeeded") failed++
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  return { times, failed }
}

/** Waits until the service says of an engine that it is there, or that it is away. */
const untilReady = async ({ send }: User, name: string, wanted: boolean) => {
  for (;;) {
    const { json } = await send("GET", "/engines")
    const engines = json as ReadonlyArray<{ readonly name: string; readonly ready: boolean }>
    if (engines.find((engine) => engine.name === name)?.ready === wanted) return
    await pause(50)
  }
}

/** Of one engine, while the other one is stopped. */
const compare = async (user: User, asked: Engine, stopped: Engine) => {
  const row = (when: string, { failed, times }: Awaited<ReturnType<typeof measure>>) => ({
    asked: asked.name,
    stopped: stopped.name,
    when,
    queries: times.length,
    failed,
    "p50 ms": quantile(times, 0.5).toFixed(1),
    "p99 ms": quantile(times, 0.99).toFixed(1),
    "max ms": quantile(times, 1).toFixed(0)
  })
  await measure(user, asked.name, queries / 4)
  const rows = [row("before", await measure(user, asked.name))]
  // What runs there when it is stopped, and what comes while it stands still.
  const stuck = [1, 2].map(() => execute(user, stopped.name, stopped.slow, 250))
  await pause(200)
  await stopped.signal("SIGSTOP")
  const asking = { isOver: false }
  const asks = (async () => {
    const all: Array<Promise<string>> = []
    while (!asking.isOver) {
      all.push(execute(user, stopped.name, "select 1", 250))
      await pause(250)
    }
    return all
  })()
  rows.push(row("it stands still", await measure(user, asked.name)))
  await untilReady(user, stopped.name, false)
  rows.push(row("it is known to be away", await measure(user, asked.name)))
  asking.isOver = true
  await stopped.signal("SIGCONT")
  const [, others] = await Promise.all([Promise.all(stuck), asks])
  await Promise.all(others)
  await untilReady(user, stopped.name, true)
  rows.push(row("it is back", await measure(user, asked.name)))
  return rows
}

export const run = async () => {
  const scope = await Effect.runPromise(Scope.make())
  const within = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.provide(effect, scope))
  const own = await within(TestPostgres.make())
  const usual = await within(TestPostgres.make())
  const maria = await within(MariaDb.make)
  const postgres: Engine = {
    name: "default",
    slow: "select pg_sleep(5)",
    signal: async (name) => processesOf(usual.directory).forEach((pid) => process.kill(pid, name))
  }
  const lake: Engine = {
    name: "lake",
    slow: "select sleep(5)",
    signal: (name) => Effect.runPromise(maria.signal(name))
  }
  const { address, stop } = await serve(Redacted.value(own.superuserUrl), {
    HOLDFAST_QUERY_URL: Redacted.value(usual.superuserUrl),
    HOLDFAST_QUERY_SUPERUSER: "allow",
    HOLDFAST_ENGINES: `lake=${maria.url}`,
    HOLDFAST_ENGINE_LAKE_PASSWORD: Redacted.value(maria.password)
  })
  try {
    const user = await login(address, "demo")
    await untilReady(user, postgres.name, true)
    await untilReady(user, lake.name, true)
    console.table([...(await compare(user, postgres, lake)), ...(await compare(user, lake, postgres))])
  } finally {
    await stop()
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
}
